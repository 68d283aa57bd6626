//! The JSON Schemas that hostprobe prints, held against the events of daemons and against their configurations.

use std::{process::Command, sync::OnceLock};

use jsonschema::Validator;
use serde_json::Value;

use crate::parts::built;

/// The schema as `hostprobe schema events` prints it.
///
/// # Panics
/// If it does not.
pub fn schema() -> Value {
    printed("events")
}

/// The schema as `hostprobe schema config` prints it.
///
/// # Panics
/// If it does not.
pub fn of_configurations() -> Value {
    printed("config")
}

fn printed(what: &str) -> Value {
    let output =
        Command::new(built("hostprobe")).args(["schema", what]).output().expect("hostprobe can be run");
    assert!(output.status.success(), "hostprobe schema {what}: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("hostprobe schema prints JSON")
}

/// Insists that the schema accepts a configuration that a daemon has accepted.
///
/// # Panics
/// If it does not, with all that it finds.
#[track_caller]
pub fn validate_configuration(text: &str) {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    let validator =
        VALIDATOR.get_or_init(|| jsonschema::draft202012::new(&of_configurations()).expect("a JSON Schema"));
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}: {text}"));
    let value = serde_json::to_value(table).expect("JSON");
    let wrong: Vec<String> =
        validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "the schema refuses what a daemon accepts:\n{}\n{text}", wrong.join("\n"));
}

/// Insists that every line is an event as the schema has it.
///
/// # Panics
/// If one is not, with all that is wrong with it.
#[track_caller]
pub fn validate(lines: &[String]) {
    for line in lines {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let wrong = wrong_with(&event);
        assert!(wrong.is_empty(), "an event is not as the schema has it:\n{}\n{line}", wrong.join("\n"));
    }
}

fn wrong_with(event: &Value) -> Vec<String> {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    let validator = VALIDATOR.get_or_init(|| jsonschema::draft202012::new(&schema()).expect("a JSON Schema"));
    validator.iter_errors(event).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Insists that no number of the stream is missing.
///
/// # Panics
/// If one is.
#[track_caller]
pub fn has_no_gap(events: &[Value]) {
    for (number, event) in (1_u64..).zip(events) {
        assert_eq!(event["event"]["sequence"].as_u64(), Some(number), "a gap in the stream: {event}");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_that_violates_the_schema_is_found() {
        let wrong = wrong_with(&json!({"event": {"action": "agent.pause"}}));
        assert!(wrong.len() > 1, "{wrong:?}");
    }
}
