//! `docs/events.md`, generated from the schema and the table of actions.

use std::fmt::Write as _;

use serde_json::Value;

use super::super::{action::Action, schema, word};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/events.md");

const HEAD: &str = "\
# The event stream, version 2

hostprobe writes one JSON object a line, in UTF-8, at most 32 KiB long. Fields follow the Elastic Common Schema (ECS) 9.0
where it has them. Every field has one type in all events, so an index takes the stream as it is. An event leaves out what
it has no value for; null is never a value. `hostprobe schema events` prints the same as a JSON Schema.

`event.sequence` counts from 1 at the daemon's start. A gap is loss, and `stream.loss` says how much was lost and where.
The daemon never prints secrets: it redacts passwords and tokens in arguments, addresses and error texts.

What the engine observes is not part of the stream. The daemon records it in its state directory; `hostprobe replay` reads
that.

This page is generated: `UPDATE_DOCS=1 cargo test -p hostprobe --lib docs_events` writes it again.

## Live

`hostprobe events --follow` shows the events as they come, and goes on with the next daemon when one ends. `--service`,
`--incident` and `--action` choose among them; `--json` shows them as they are in the stream.

`GET /events` sends them to any HTTP client as server-sent events, with `event.id` as their id. A client that comes back with
`Last-Event-ID` gets what it missed, if it is back within a minute and missed less than 1,024 events and 1 MiB. Else an event
of the type `missed` tells their `count`; without a count, the daemon is another one. At most 16 clients watch at a time, and
others are answered 503. Where nobody watches, nothing is kept.

## Actions

Beside these fields, each event carries the ones marked *always* below.

";

#[test]
fn docs_events_lists_every_action_and_field() {
    let expected = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(FILE, &expected).unwrap();
    }
    let found = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(found == expected, "docs/events.md is out of date: run this test with UPDATE_DOCS=1");
}

fn reference() -> String {
    let schema = schema();
    let mut page = HEAD.to_owned();
    page.push_str("| `event.action` | when | `event.kind` | `event.category`, `event.type` | carries |\n|---|---|---|---|---|\n");
    for action in Action::ALL {
        let shape = action.shape();
        let name = word(&action);
        let mut carries: Vec<String> = shape.requires.iter().map(|path| format!("`{path}`")).collect();
        if !shape.either.is_empty() {
            let either: Vec<String> = shape.either.iter().map(|path| format!("`{path}`")).collect();
            carries.push(format!("{} unless its status is unknown", either.join(" or ")));
        }
        let when = meaning(&schema["$defs"]["Action"], &name);
        let kind = word(&shape.kind);
        let (category, types, carries) = (shape.category, shape.types, carries.join(", "));
        writeln!(page, "| `{name}` | {when} | {kind} | {category}, {types} | {carries} |").unwrap();
    }
    page.push_str("\n## Fields\n\n| field | type | meaning |\n|---|---|---|\n");
    fields(&schema, &schema, "", &mut page);
    page
}

/// The meaning of a word of a closed vocabulary.
fn meaning(vocabulary: &Value, word: &str) -> String {
    let words = vocabulary["oneOf"].as_array().unwrap();
    let found = words.iter().find(|known| known["const"] == word).unwrap();
    in_a_cell(&found["description"])
}

/// Writes the fields of an object, depth first, a row each.
fn fields(schema: &Value, object: &Value, path: &str, page: &mut String) {
    let required = object["required"].as_array().cloned().unwrap_or_default();
    for (name, property) in object["properties"].as_object().unwrap() {
        let inner_path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let definition = resolved(schema, property);
        let is_list = definition["type"] == "array";
        let item = if is_list { resolved(schema, &definition["items"]) } else { definition };
        let always =
            if path.is_empty() && required.contains(&Value::from(name.as_str())) { ", *always*" } else { "" };
        let many = if is_list { "list of " } else { "" };
        let description = if property["description"].is_null() {
            &definition["description"]
        } else {
            &property["description"]
        };
        let (type_name, meaning) = (type_name(item), in_a_cell(description));
        writeln!(page, "| `{inner_path}` | {many}{type_name}{always} | {meaning} |").unwrap();
        if item["properties"].is_object() {
            fields(schema, item, &inner_path, page);
        }
    }
}

pub(super) fn resolved<'s>(schema: &'s Value, node: &'s Value) -> &'s Value {
    let target =
        node["$ref"].as_str().and_then(|reference| schema.pointer(reference.trim_start_matches('#')));
    target.unwrap_or(node)
}

fn type_name(definition: &Value) -> String {
    let words = definition["oneOf"].as_array().or(definition["enum"].as_array());
    if let Some(constant) = definition["const"].as_str() {
        return format!("`{constant}`");
    }
    if let Some(words) = words {
        let words = words.iter().map(|word| word["const"].as_str().or(word.as_str()).unwrap_or_default());
        // The table above has them all.
        return match words.clone().count() {
            0..=30 => words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
            _ => "word".to_owned(),
        };
    }
    match (definition["type"].as_str(), definition["format"].as_str()) {
        (Some("string"), Some("date-time")) => "time".to_owned(),
        (Some("string"), _) => "text".to_owned(),
        (Some(other), _) => other.to_owned(),
        (None, _) => "object".to_owned(),
    }
}

fn in_a_cell(description: &Value) -> String {
    description.as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}
