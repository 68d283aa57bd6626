//! `docs/pipelines/elasticsearch-template.json`: an index template, generated from the schema of the events.

use serde_json::{Map, Value, json};

use super::{super::schema, lines, reference::resolved, samples};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pipelines/elasticsearch-template.json");

/// Longer words are stored and not searched, as ECS has it for its own.
const SEARCHED: u32 = 1024;

fn template() -> Value {
    let schema = schema();
    json!({
        "index_patterns": ["hostprobe-*"],
        "data_stream": {},
        "priority": 200,
        "_meta": { "description": "Events of hostprobe, generated from their schema.", "ecs.version": "9.0" },
        "template": {
            "settings": { "index.mapping.ignore_malformed": true, "index.mapping.total_fields.limit": 2000 },
            "mappings": { "dynamic": false, "date_detection": false, "properties": properties(&schema, &schema, "") },
        },
    })
}

fn properties(schema: &Value, object: &Value, path: &str) -> Value {
    let mut mapped = Map::new();
    for (name, property) in object["properties"].as_object().unwrap() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let definition = resolved(schema, property);
        // A field of Elasticsearch holds one value or several.
        let item =
            if definition["type"] == "array" { resolved(schema, &definition["items"]) } else { definition };
        let mapping = if item["properties"].is_object() {
            json!({ "properties": properties(schema, item, &path) })
        } else {
            mapping(item, &path)
        };
        mapped.insert(name.clone(), mapping);
    }
    Value::Object(mapped)
}

fn mapping(definition: &Value, path: &str) -> Value {
    let last = path.rsplit('.').next().unwrap_or(path);
    match (definition["type"].as_str(), definition["format"].as_str()) {
        _ if path == "@timestamp" => json!({ "type": "date_nanos" }),
        (_, Some("date-time")) => json!({ "type": "date" }),
        // Its names are foreign words: as fields of their own they would be without end.
        (Some("object"), _) => json!({ "type": "flattened" }),
        (Some("integer"), _) => json!({ "type": "long" }),
        (Some("number"), _) => json!({ "type": "double" }),
        (Some("boolean"), _) => json!({ "type": "boolean" }),
        (Some("string"), _) if matches!(path, "message" | "error.message") => {
            json!({ "type": "match_only_text" })
        }
        (Some("string"), _) if last == "ip" => json!({ "type": "ip" }),
        (Some("string"), _) if last == "command_line" => json!({ "type": "wildcard" }),
        // A word of a closed vocabulary has no type of its own in the schema.
        (Some("string") | None, _) => json!({ "type": "keyword", "ignore_above": SEARCHED }),
        (Some(other), _) => panic!("{path}: no mapping for {other}"),
    }
}

#[test]
fn docs_elasticsearch_template_is_that_of_the_schema() {
    let expected = format!("{:#}\n", template());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(FILE, &expected).unwrap();
    }
    let found = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(found == expected, "{FILE} is out of date: run this test with UPDATE_DOCS=1");
}

#[test]
fn the_template_has_a_fitting_type_for_each_field_of_each_event() {
    let template = template();
    for line in lines(&samples::facts()) {
        fits(&template["template"]["mappings"], &serde_json::from_str(&line).unwrap(), "");
    }
}

fn fits(mapping: &Value, value: &Value, path: &str) {
    match value {
        Value::Object(fields) if mapping["type"] == "flattened" => {
            assert!(fields.values().all(Value::is_string), "{path}: {fields:?}");
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                fits(&mapping["properties"][name], value, &format!("{path}.{name}"));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fits(mapping, item, path)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let kind = mapping["type"].as_str().unwrap_or_else(|| panic!("{path} is not mapped"));
            let is_right = match kind {
                "long" => value.is_i64(),
                "double" => value.is_number(),
                "boolean" => value.is_boolean(),
                "ip" => value.as_str().is_some_and(|text| text.parse::<std::net::IpAddr>().is_ok()),
                "date" | "date_nanos" => {
                    value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok())
                }
                _ => value.is_string(),
            };
            assert!(is_right, "{path}: {value} is no {kind}");
        }
    }
}
