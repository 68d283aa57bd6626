//! Discord: an embed by a webhook, which is updated.
//!
//! `allowed_mentions` lets no text mention anyone. The punctuation of foreign text is escaped, so that it is neither
//! markup nor a link.

use std::time::Duration;

use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::{
    call::{Answer, Call, Format, LONGEST_PAUSE, Refused, RefusedKind, Request, below, by_status},
    text::{State, Text, Writer},
};
use crate::{act::alert::outbox::Message, fact::Severity};

/// The longest parts of an embed, in characters: title, description, and value of a field.
const TITLE_MAX: usize = 256;
const DESCRIPTION_MAX: usize = 2000;
const VALUE_MAX: usize = 500;

/// The answer to an update of a message that was deleted: `Unknown Message`.
const UNKNOWN_MESSAGE: i64 = 10_008;

#[derive(Debug)]
pub(super) struct Discord {
    pub(super) writer: Writer,
    pub(super) url: Url,
}

impl Format for Discord {
    fn post(&self, message: &Message, _: Option<&str>) -> Result<Call, String> {
        let mut url = self.url.clone();
        // Only then the answer has the message's id.
        url.query_pairs_mut().append_pair("wait", "true");
        let body = body(&self.writer.text(message));
        Ok(Call::Request(Request::json(Method::POST, &url, &body)))
    }

    fn edit(&self, message: &Message, posted: &str) -> Option<Call> {
        let url = below(&self.url, &["messages", posted]);
        Some(Call::Request(Request::json(Method::PATCH, &url, &body(&self.writer.text(message)))))
    }

    fn read(&self, answer: &Answer) -> Result<Option<String>, Refused> {
        let value = answer.value();
        by_status(answer).map_err(|refused| {
            // In seconds, with a fraction.
            let pause = value["retry_after"].as_f64().and_then(|wait| Duration::try_from_secs_f64(wait).ok());
            let kind = match refused.kind {
                RefusedKind::Message if value["code"] == UNKNOWN_MESSAGE => RefusedKind::Gone,
                RefusedKind::Busy(other) => {
                    RefusedKind::Busy(pause.or(other).map(|pause| pause.min(LONGEST_PAUSE)))
                }
                kind @ (RefusedKind::Message | RefusedKind::Gone) => kind,
            };
            Refused { kind, ..refused }
        })?;
        let id = value["id"].as_str().filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()));
        Ok(id.map(str::to_owned))
    }

    fn shows_silence(&self) -> bool {
        true
    }
}

fn body(text: &Text) -> Value {
    let color = match text.state {
        State::Open(Severity::Critical) => 0xd6_2728,
        State::Open(Severity::Warning) => 0xff_7f0e,
        State::Open(Severity::Info) | State::Acknowledged => 0x1f_77b4,
        State::Resolved => 0x2c_a02c,
    };
    let fields: Vec<Value> = text
        .facts
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": escape(value, VALUE_MAX), "inline": true }))
        .collect();
    let mut embed = json!({
        "title": escape(&format!("{} {}", text.mark(), text.title), TITLE_MAX),
        "description": escape(&text.summary, DESCRIPTION_MAX),
        "color": color,
        "fields": fields,
    });
    if let Some(page) = text.page.as_ref().filter(|page| page.len() <= 500) {
        embed["url"] = json!(page);
    }
    json!({ "embeds": [embed], "allowed_mentions": { "parse": [] } })
}

/// The text with a backslash before its punctuation, which has at most `most` characters with them.
fn escape(text: &str, most: usize) -> String {
    let is_markup = |char: char| char.is_ascii_punctuation() && !matches!(char, '.' | ',' | ';' | '%' | '\'');
    let (mut escaped, mut length) = (String::new(), 0);
    for char in text.chars() {
        length += 1 + usize::from(is_markup(char));
        if length > most - 1 {
            escaped.push('…');
            break;
        }
        if is_markup(char) {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}
