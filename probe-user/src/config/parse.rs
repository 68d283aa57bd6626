//! From text to the file's shape, finding every error of syntax, and then every wrong key and value.

use serde::{Deserialize, de::IntoDeserializer};
use toml::{
    Spanned,
    de::{DeArray, DeString, DeTable, DeValue},
};

use super::{
    error::Finding,
    file::File,
    left_out::{LeftOut, Tables},
    nearest::nearest,
    values::is_harmless,
};

/// The search for errors ends after so many: the operator mends the first ones first.
const MOST_ERRORS: usize = 20;

/// The tables that a file of `conf.d` can have.
const OF_PART: [&str; 3] = ["alert", "hook", "service"];

/// A file as far as it could be read.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) file: File,
    /// Everything that is wrong with its syntax or its shape.
    pub(super) errors: Vec<Finding>,
    /// What of it is not in `file` for that.
    pub(super) left_out: LeftOut,
}

/// Reads the text of the main file, or of a part of the configuration in `conf.d`.
pub(super) fn parse(text: &str, is_part: bool) -> Parsed {
    let (mut document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let errors = errors.iter().take(MOST_ERRORS).map(|error| finding(error, text)).collect();
        return Parsed { errors, left_out: LeftOut::file(), ..Parsed::default() };
    }
    let (tables, mut left_out) = (Tables::of(document.get_ref()), LeftOut::default());
    // Reading stops at the first error. What it was about is taken out and the rest is read again, until
    // no error is left.
    let mut found = Vec::new();
    if is_part {
        let is_foreign = |key: &&Spanned<DeString<'_>>| !OF_PART.contains(&key.get_ref().as_ref());
        let foreign: Vec<_> = document.get_ref().keys().filter(is_foreign).cloned().collect();
        for key in foreign {
            found.push(of_main_file(&key));
            document.get_mut().remove(&key);
        }
    }
    loop {
        match File::deserialize(document.clone().into_deserializer()) {
            Ok(file) => return Parsed { file, errors: found, left_out },
            Err(error) => {
                found.push(finding(&error, text));
                let removed = error.span().filter(|span| remove_from_table(document.get_mut(), span));
                match removed.filter(|_| found.len() < MOST_ERRORS) {
                    Some(place) => tables.take_out(&place, &mut left_out),
                    None => return Parsed { errors: found, left_out: LeftOut::file(), ..Parsed::default() },
                }
            }
        }
    }
}

/// The finding about a table that only the main file can have.
fn of_main_file(key: &Spanned<DeString<'_>>) -> Finding {
    let message = format!(
        "`{}` in a file of conf.d; expected [[service]], [[alert]] and [[hook]] here, and anything else in the main file",
        key.get_ref()
    );
    Finding::new(key.span().start, message)
}

/// Takes out the entry whose key or value has exactly this place.
fn remove_from_table(table: &mut DeTable<'_>, span: &std::ops::Range<usize>) -> bool {
    let at = table.iter().find(|(key, value)| key.span() == *span || value.span() == *span);
    if let Some(key) = at.map(|(key, _)| key.clone()) {
        return table.remove(&key).is_some();
    }
    table.iter_mut().any(|(_, value)| remove_from_value(value, span))
}

fn remove_from_value(value: &mut Spanned<DeValue<'_>>, span: &std::ops::Range<usize>) -> bool {
    match value.get_mut() {
        DeValue::Table(table) => remove_from_table(table, span),
        DeValue::Array(array) => {
            let before = array.len();
            *array = std::mem::replace(array, DeArray::new())
                .into_iter()
                .filter(|item| item.span() != *span)
                .collect();
            array.len() < before || array.iter_mut().any(|item| remove_from_value(item, span))
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => false,
    }
}

fn finding(error: &toml::de::Error, text: &str) -> Finding {
    let at = error.span().map_or(0, |span| span.start);
    let written = text.get(at..).and_then(|rest| rest.lines().next()).unwrap_or_default().trim();
    let words = match error.message() {
        // `[service]` where a list of tables is expected.
        "invalid type: map, expected a sequence" if written.starts_with('[') => {
            format!("found a table; expected a table of a list, which is written [{written}]")
        }
        "string values must be quoted" | "string values must be quoted, expected literal string" => {
            let word = written.split([' ', '\t', '#', ',', ']', '}']).next().unwrap_or_default();
            if word.is_empty() {
                let words = "no value; expected a text in quotes, a number, true or false, or a list";
                return Finding::new(at, words);
            }
            let expected = if is_harmless(word) { format!("{word:?}") } else { "\"…\"".to_owned() };
            format!("a text without quotes; expected {expected}")
        }
        other => in_plain_words(other),
    };
    let words = match example(text.get(..at).unwrap_or_default()) {
        Some(example) if words.ends_with("; expected a list") => format!("{words} such as {example}"),
        _ => words,
    };
    Finding::new(at, words)
}

/// An example of the list that the key at the end of a text takes: `exec = `, where a value follows.
fn example(before: &str) -> Option<&'static str> {
    let key = before.trim_end().strip_suffix('=')?.trim_end();
    let key = key.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()?;
    match key {
        "exec" | "command" | "before" => Some(r#"["/usr/bin/program", "argument"]"#),
        "on" => Some(r#"["incident.open", "incident.resolve"]"#),
        "verdicts" => Some(r#"["hung", "crash_loop"]"#),
        "services" | "depends_on" | "start_after" => Some(r#"["db"]"#),
        "maintenance" => Some(r#"["Sun 02:00-04:00 Europe/Berlin"]"#),
        "status" => Some("[200, 204]"),
        "answers" => Some(r#"["192.0.2.1"]"#),
        _ => None,
    }
}

/// The parser's message as "what is wrong; expected …", in TOML's words, and without repeating any text of
/// the file except keys.
fn in_plain_words(message: &str) -> String {
    let (wrong, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let wrong = wrong.replace('\n', " ");
    let wrong = if let Some(key) = wrong.strip_prefix("unknown field ") {
        return unknown_key(key, expected);
    } else if wrong.starts_with("invalid type: string") {
        "found a string".to_owned()
    } else if let Some(kind) = wrong.strip_prefix("invalid type: ") {
        let kind = kind.replace("sequence", "a list").replace("map", "a table");
        format!("found {kind}")
    } else {
        wrong
    };
    let expected = match expected {
        "a sequence" if wrong == "found a table" => "a list (a table of a list begins with `[[`)",
        "a sequence" => "a list",
        "a boolean" => "true or false",
        "f64" => "a number",
        "" if wrong == "duplicate key" => "each key once",
        other => other,
    };
    if expected.is_empty() { wrong } else { format!("{wrong}; expected {expected}") }
}

fn unknown_key(key: &str, expected: &str) -> String {
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    if let Some(place) = misplaced(key.trim_matches('`'), &known) {
        return format!("{key} is not a key of this table; expected it in {place}");
    }
    let near = nearest(key.trim_matches('`'), known.iter().copied());
    let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
    format!("unknown key {key}{hint}; expected {expected}")
}

/// The place of a key that is known elsewhere in the file, if the keys of this table are the `known` ones.
fn misplaced(key: &str, known: &[&str]) -> Option<&'static str> {
    const PROBES: [&str; 5] = ["http", "tcp", "redis", "postgres", "mysql"];
    const PROBE_OPTIONS: [&str; 4] = ["interval", "timeout", "failures", "expect_status"];
    const RESTARTS: [&str; 7] =
        ["enabled", "budget", "backoff", "grace", "on_clean_exit", "before", "command"];
    const LIMITS: [&str; 7] =
        ["cpu_percent", "memory_percent", "threads", "fds", "threads_percent", "fds_percent", "growth"];
    const MATCHES: [&str; 5] = ["exe", "pidfile", "port", "cgroup", "container"];
    const RESPONSES: [&str; 5] =
        ["worker_died", "memory_full", "pool_exhausted", "backlog_full", "exhausting"];
    let (in_file, in_service) = (known.contains(&"service"), known.contains(&"depends_on"));
    let of_all_restarts = known == ["budget"];
    match key {
        "probe" if in_file => Some("[[service.probe]] below its [[service]]"),
        "limits" if in_file => Some("[service.limits] below its [[service]]"),
        "policy" if in_file => Some("[service.policy] below its [[service]]"),
        "name" | "unit" | "exec" | "container" | "match" | "depends_on" if in_file => Some("a [[service]]"),
        "webhook" | "slack" | "pagerduty" | "email" | "ntfy" | "telegram" | "discord" | "teams"
            if in_file =>
        {
            Some("an [[alert]]")
        }
        _ if of_all_restarts && RESTARTS.contains(&key) => Some("[service.restart] below its [[service]]"),
        _ if !in_service => None,
        _ if PROBES.contains(&key) || PROBE_OPTIONS.contains(&key) => Some("[[service.probe]]"),
        _ if RESTARTS.contains(&key) => Some("[service.restart]"),
        _ if LIMITS.contains(&key) => Some("[service.limits]"),
        _ if MATCHES.contains(&key) => Some("`match`, such as match = { port = 80 }"),
        _ if RESPONSES.contains(&key) => Some("[service.policy]"),
        _ => None,
    }
}
