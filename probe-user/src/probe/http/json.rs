//! Whether a body has the JSON values that a probe expects.

use serde_json::Value;

/// The most of a value that is quoted, in characters.
const QUOTED: usize = 200;

/// What is wrong with a body; None if all values are there.
pub(super) fn complaint(body: &[u8], wanted: &[(String, Value)]) -> Option<String> {
    let Ok(found) = serde_json::from_slice::<Value>(body) else {
        return Some(format!("expected a JSON body, got {} bytes that are none", body.len()));
    };
    wanted.iter().find_map(|(pointer, wanted)| {
        let wrong = match found.pointer(pointer) {
            Some(value) if is_same(value, wanted) => return None,
            Some(value) => format!("got {}", quoted(value)),
            None => "there is none".to_owned(),
        };
        Some(format!("expected {} at {pointer:?} of the JSON body, {wrong}", quoted(wanted)))
    })
}

/// Numbers are the same by their value: 1 and 1.0 are.
fn is_same(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Number(found), Value::Number(wanted)) => found == wanted || found.as_f64() == wanted.as_f64(),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found.iter().zip(wanted).all(|(found, wanted)| is_same(found, wanted))
        }
        (Value::Object(found), Value::Object(wanted)) => {
            found.len() == wanted.len()
                && wanted
                    .iter()
                    .all(|(key, wanted)| found.get(key).is_some_and(|found| is_same(found, wanted)))
        }
        (found, wanted) => found == wanted,
    }
}

fn quoted(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(QUOTED) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_found_by_their_pointers() {
        let body = br#"{"status":"healthy","checks":[{"name":"db","ms":1.0}],"a/b":null}"#;
        let complaint =
            |pointer: &str, value| complaint(body, &[(pointer.to_owned(), value)]).unwrap_or_default();
        for (pointer, value) in [
            ("/status", json!("healthy")),
            ("/checks/0", json!({"ms": 1, "name": "db"})),
            ("/checks", json!([{"ms": 1, "name": "db"}])),
            ("/a~1b", json!(null)),
        ] {
            assert_eq!(complaint(pointer, value), "", "{pointer}");
        }
        assert_eq!(
            complaint("/status", json!("ok")),
            r#"expected "ok" at "/status" of the JSON body, got "healthy""#
        );
        assert!(complaint("/checks/1", json!(1)).ends_with("there is none"));
        assert!(complaint("", json!("x".repeat(1000))).len() < 500, "long values are cut");
    }

    #[test]
    fn a_body_that_is_no_json_is_said_so() {
        let none = complaint(b"<html>", &[]).unwrap_or_default();
        assert_eq!(none, "expected a JSON body, got 6 bytes that are none");
    }
}
