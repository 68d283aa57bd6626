//! From text to the file's shape, finding every error of syntax, and then every wrong key and value.

use serde::{Deserialize, de::IntoDeserializer};
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

use super::{error::Finding, file::File, nearest::nearest};

/// The search for errors ends after so many: the operator mends the first ones first.
const MOST_ERRORS: usize = 20;

/// Reads the text; on failure says everything that is wrong with its syntax or its shape.
pub(super) fn parse(text: &str) -> Result<File, Vec<Finding>> {
    let (mut document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors.iter().take(MOST_ERRORS).map(finding).collect());
    }
    // Reading stops at the first error. What it was about is taken out and the rest is read again, until
    // no error is left.
    let mut found = Vec::new();
    loop {
        match File::deserialize(document.clone().into_deserializer()) {
            Ok(file) if found.is_empty() => return Ok(file),
            Ok(_) => return Err(found),
            Err(error) => {
                found.push(finding(&error));
                let removed = error.span().is_some_and(|span| remove_from_table(document.get_mut(), &span));
                if !removed || found.len() == MOST_ERRORS {
                    return Err(found);
                }
            }
        }
    }
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

fn finding(error: &toml::de::Error) -> Finding {
    (error.span().map_or(0, |span| span.start), in_plain_words(error.message()))
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
    let near = nearest(key.trim_matches('`'), known.iter().copied());
    let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
    format!("unknown key {key}{hint}; expected {expected}")
}
