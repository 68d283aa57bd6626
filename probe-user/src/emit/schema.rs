//! The JSON Schema of the event stream, from the same types and table as the events.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{action::Action, wire::Record};
use crate::json_schema::Present;

/// The JSON Schema (2020-12) of one event.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(Present);
    let mut schema = settings.into_generator().into_root_schema_for::<Record>();
    schema.insert("title".to_owned(), json!("hostprobe event"));
    schema.insert("allOf".to_owned(), Action::ALL.iter().map(|action| condition(*action)).collect());
    schema.into()
}

/// The fields that an event of this action always carries.
fn condition(action: Action) -> Value {
    let shape = action.shape();
    let mut then = Map::new();
    for path in shape.requires {
        require(&mut then, path);
    }
    if !shape.either.is_empty() {
        let both = shape.either.iter().map(|path| {
            let mut alternative = Map::new();
            require(&mut alternative, path);
            Value::Object(alternative)
        });
        then.insert("not".to_owned(), json!({ "allOf": both.collect::<Vec<_>>() }));
    }
    let event = then.entry("properties").or_insert_with(|| json!({}));
    let event = &mut event["event"];
    if event.is_null() {
        *event = json!({});
    }
    event["properties"] = json!({
        "kind": { "const": shape.kind },
        "category": { "const": [shape.category] },
        "type": { "const": [shape.types] },
    });
    json!({
        "if": { "properties": { "event": { "properties": { "action": { "const": action } } } } },
        "then": then,
    })
}

/// Requires the field at a dotted path, and its parents.
fn require(schema: &mut Map<String, Value>, path: &str) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let required = schema.entry("required").or_insert_with(|| json!([]));
    if let Value::Array(required) = required
        && !required.iter().any(|name| name == first)
    {
        required.push(json!(first));
    }
    if let Some(rest) = rest
        && let Value::Object(properties) = schema.entry("properties").or_insert_with(|| json!({}))
        && let Value::Object(inner) = properties.entry(first).or_insert_with(|| json!({}))
    {
        require(inner, rest);
    }
}
