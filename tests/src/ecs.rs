//! Holds events against the Elastic Common Schema, as an index with its mappings does.
//!
//! An index takes a field with one type only: the first event decides, and the index rejects later ones that differ.
//! So all events are checked together.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::LazyLock,
};

use serde_json::Value;

/// What ECS defines: see the head of the file.
static FIELDS: LazyLock<HashMap<&str, Field>> = LazyLock::new(|| {
    include_str!("ecs/fields.txt").lines().filter(|line| !line.starts_with('#')).filter_map(field).collect()
});

/// The names of ECS's objects: what stands before a dot in a field's name.
static OBJECTS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    FIELDS.keys().flat_map(|name| name.match_indices('.').map(|(dot, _)| &name[..dot])).collect()
});

/// A field as ECS defines it.
struct Field {
    /// ECS's name of the type.
    type_name: &'static str,
    kind: Kind,
    is_list: bool,
    /// The only values it may have; empty if it may have any.
    allowed: Vec<&'static str>,
}

/// The types of JSON, integers apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Boolean,
    Integer,
    Number,
    Object,
    Text,
}

impl Kind {
    /// The type of a value; None for null and lists, which have none of their own.
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(_) => Some(Self::Boolean),
            Value::Number(number) => Some(if number.is_f64() { Self::Number } else { Self::Integer }),
            Value::String(_) => Some(Self::Text),
            Value::Object(_) => Some(Self::Object),
            Value::Null | Value::Array(_) => None,
        }
    }
}

/// Events, and what an index with ECS's mappings would reject of them.
#[derive(Debug, Default)]
pub struct Check {
    events: u64,
    fields: BTreeMap<String, Seen>,
    findings: BTreeSet<String>,
}

/// All that one field was, in all events.
#[derive(Debug, Default)]
struct Seen {
    kinds: BTreeSet<Kind>,
    /// In some event it was no list.
    is_single: bool,
}

impl Check {
    /// Adds an event; `source` names its file.
    pub fn add(&mut self, source: &str, event: &Value) {
        self.events += 1;
        if event.pointer("/ecs/version").is_none() {
            self.findings.insert(format!("{source}: an event without ecs.version"));
        }
        self.walk(String::new(), event, false);
    }

    fn walk(&mut self, path: String, value: &Value, in_list: bool) {
        if !path.is_empty() {
            self.see(&path, value, in_list);
        }
        match value {
            Value::Object(fields) => {
                for (name, inner) in fields {
                    let inner_path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    self.walk(inner_path, inner, false);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.walk(path.clone(), item, true)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn see(&mut self, path: &str, value: &Value, in_list: bool) {
        let seen = self.fields.entry(path.to_owned()).or_default();
        seen.kinds.extend(Kind::of(value));
        seen.is_single |= !in_list && !value.is_array();
        let allowed = FIELDS.get(path).map_or(&[][..], |field| &field.allowed);
        if let Some(word) = value.as_str()
            && !allowed.is_empty()
            && !allowed.contains(&word)
        {
            self.findings.insert(format!("{path}: {word:?} is not one of ECS's values"));
        }
    }

    pub const fn events(&self) -> u64 {
        self.events
    }

    /// What an index would reject, a line each.
    pub fn findings(&self) -> Vec<String> {
        let mut findings = self.findings.clone();
        for (path, seen) in &self.fields {
            let mut kinds = seen.kinds.clone();
            if kinds.contains(&Kind::Number) {
                kinds.remove(&Kind::Integer);
            }
            if kinds.len() > 1 {
                findings
                    .insert(format!("{path}: {kinds:?}; an index takes one of them and rejects the others"));
            }
            match FIELDS.get(path.as_str()) {
                Some(field) => {
                    let fits = |kind: &Kind| {
                        *kind == field.kind || (*kind == Kind::Integer && field.kind == Kind::Number)
                    };
                    if !kinds.iter().all(fits) {
                        findings.insert(format!("{path}: {kinds:?}; ECS has the type {}", field.type_name));
                    }
                    if field.is_list && seen.is_single {
                        findings.insert(format!("{path}: a single value; ECS has a list"));
                    }
                }
                None if OBJECTS.contains(path.as_str()) && kinds.iter().any(|kind| *kind != Kind::Object) => {
                    findings.insert(format!("{path}: {kinds:?}; ECS has an object of that name"));
                }
                None => {}
            }
        }
        findings.into_iter().collect()
    }
}

fn field(line: &'static str) -> Option<(&'static str, Field)> {
    let (definition, allowed) = line.split_once(" = ").unwrap_or((line, ""));
    let mut words = definition.split(' ');
    let (name, type_name) = (words.next()?, words.next()?);
    let kind = match type_name {
        "long" | "unsigned_long" => Kind::Integer,
        "float" | "scaled_float" => Kind::Number,
        "boolean" => Kind::Boolean,
        "object" | "nested" | "flattened" => Kind::Object,
        _ => Kind::Text,
    };
    let is_list = words.next() == Some("list");
    Some((name, Field { type_name, kind, is_list, allowed: allowed.split_whitespace().collect() }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn findings(events: &[Value]) -> Vec<String> {
        let mut check = Check::default();
        for event in events {
            let mut event = event.clone();
            event["ecs"] = json!({ "version": "9.0" });
            check.add("stream", &event);
        }
        check.findings()
    }

    #[test]
    fn a_field_has_one_type_in_all_events() {
        assert_eq!(
            findings(&[json!({ "probe": { "took": 1 } }), json!({ "probe": { "took": 1.5 } })]),
            [""; 0]
        );
        let found = findings(&[json!({ "probe": { "took": 1 } }), json!({ "probe": { "took": "1" } })]);
        assert!(found[0].starts_with("probe.took: {Integer, Text}"), "{found:?}");
        let found = findings(&[json!({ "probe": "tcp" }), json!({ "probe": { "took": 1 } })]);
        assert!(found[0].starts_with("probe: {Object, Text}"), "{found:?}");
    }

    #[test]
    fn a_field_of_ecs_has_its_type_and_its_values() {
        let right = json!({ "event": { "kind": "event", "type": ["start"], "sequence": 1 }, "server": { "port": 80 } });
        assert_eq!(findings(&[right]), [""; 0]);
        for (event, finding) in [
            (json!({ "source": "ebpf" }), "source: {Text}; ECS has an object of that name"),
            (json!({ "process": { "pid": "1" } }), "process.pid: {Text}; ECS has the type long"),
            (json!({ "event": { "kind": "odd" } }), "event.kind: \"odd\" is not one of ECS's values"),
            (json!({ "event": { "type": ["odd"] } }), "event.type: \"odd\" is not one of ECS's values"),
            (json!({ "event": { "type": "start" } }), "event.type: a single value; ECS has a list"),
        ] {
            assert_eq!(findings(&[event]), [finding]);
        }
    }

    #[test]
    fn an_event_names_the_version_of_ecs() {
        let mut check = Check::default();
        check.add("stream", &json!({ "message": "x" }));
        assert_eq!(check.findings(), ["stream: an event without ecs.version"]);
    }
}
