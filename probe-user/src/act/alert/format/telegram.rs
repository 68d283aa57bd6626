//! Telegram's Bot API: a message in a chat, which is updated.
//!
//! Text is HTML. Foreign text stands in `<code>`, in which Telegram looks for no links, mentions and commands.

use std::time::Duration;

use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::{
    call::{Answer, Call, Format, LONGEST_PAUSE, Refused, RefusedKind, Request, below, by_status, cut},
    text::{Text, Writer},
};
use crate::act::alert::outbox::Message;

/// The longest message, in UTF-16 units after the entities are read.
const TEXT_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Telegram {
    pub(super) writer: Writer,
    /// The address of the API, such as `https://api.telegram.org`.
    pub(super) api: Url,
    pub(super) token: String,
    pub(super) chat: String,
}

impl Telegram {
    fn call(&self, method: &str, body: &Value) -> Call {
        let url = below(&self.api, &[&format!("bot{}", self.token), method]);
        Call::Request(Request::json(Method::POST, &url, body))
    }

    fn body(&self, message: &Message) -> Value {
        json!({
            "chat_id": self.chat,
            "text": html(&self.writer.text(message)),
            "parse_mode": "HTML",
            "link_preview_options": { "is_disabled": true },
        })
    }
}

impl Format for Telegram {
    fn post(&self, message: &Message, posted: Option<&str>) -> Result<Call, String> {
        let mut body = self.body(message);
        if let Some(id) = posted.and_then(|posted| posted.parse::<i64>().ok()) {
            body["reply_parameters"] = json!({ "message_id": id, "allow_sending_without_reply": true });
        }
        Ok(self.call("sendMessage", &body))
    }

    fn edit(&self, message: &Message, posted: &str) -> Option<Call> {
        let mut body = self.body(message);
        body["message_id"] = json!(posted.parse::<i64>().ok()?);
        Some(self.call("editMessageText", &body))
    }

    fn read(&self, answer: &Answer) -> Result<Option<String>, Refused> {
        let value = answer.value();
        let why = value["description"].as_str().unwrap_or_default();
        if why.contains("message is not modified") {
            return Ok(None);
        }
        by_status(answer).map_err(|refused| {
            let gone = ["message to edit not found", "message can't be edited", "MESSAGE_ID_INVALID"];
            let pause = value["parameters"]["retry_after"].as_u64().map(Duration::from_secs);
            let kind = match refused.kind {
                RefusedKind::Message if gone.iter().any(|gone| why.contains(gone)) => RefusedKind::Gone,
                RefusedKind::Busy(other) => {
                    RefusedKind::Busy(pause.or(other).map(|pause| pause.min(LONGEST_PAUSE)))
                }
                kind @ (RefusedKind::Message | RefusedKind::Gone) => kind,
            };
            Refused { kind, ..refused }
        })?;
        Ok(value["result"]["message_id"].as_i64().map(|id| id.to_string()))
    }

    fn shows_silence(&self) -> bool {
        true
    }
}

/// The text as HTML. The facts that have no room are left out.
fn html(text: &Text) -> String {
    let title = format!("{} {}", text.mark(), text.title);
    let mut room = TEXT_MAX;
    let mut take = |part: &str| {
        let length = part.encode_utf16().count() + 2;
        let fits = length <= room;
        room = room.saturating_sub(if fits { length } else { 0 });
        fits
    };
    let title = cut(&title, 300);
    take(&title);
    take(&text.summary);
    let mut html = format!("<b>{}</b>\n<code>{}</code>", escape(&title), escape(&text.summary));
    for (name, value) in &text.facts {
        if take(&format!("{name}: {value}")) {
            html.push_str(&format!("\n{name}: <code>{}</code>", escape(value)));
        }
    }
    if let Some(page) = text.page.as_ref().filter(|page| take(page)) {
        html.push_str(&format!("\n<a href=\"{}\">hostprobe's page</a>", escape(page)));
    }
    html
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
