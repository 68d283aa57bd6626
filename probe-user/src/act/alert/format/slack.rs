//! Slack: an incoming webhook, or a bot whose message about an incident is updated.
//!
//! Foreign text stands in `plain_text` objects, in which Slack reads no markup. Only the title that notifications show is
//! `mrkdwn`, with its three control characters escaped, so that no text mentions a person or makes a link.

use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::{
    call::{Answer, Call, Format, Refused, RefusedKind, Request, below, by_status, cut},
    text::{Text, Writer},
};
use crate::{act::alert::outbox::Message, redact::redact};

/// The longest texts that Slack takes, in characters: of a header block, of a section block, and of a field of one.
const HEADER_MAX: usize = 150;
const SECTION_MAX: usize = 3000;
const FIELD_MAX: usize = 2000;

/// The most fields of a section block.
const FIELDS_MAX: usize = 10;

/// An incoming webhook. It has no updates.
#[derive(Debug)]
pub(super) struct IncomingWebhook {
    pub(super) writer: Writer,
    pub(super) url: Url,
}

impl Format for IncomingWebhook {
    fn post(&self, message: &Message, _: Option<&str>) -> Result<Call, String> {
        let body = body(&self.writer.text(message));
        Ok(Call::Request(Request::json(Method::POST, &self.url, &body)))
    }
}

/// A bot, by Slack's Web API.
#[derive(Debug)]
pub(super) struct Bot {
    pub(super) writer: Writer,
    /// The address of the API, such as `https://slack.com/api`.
    pub(super) api: Url,
    pub(super) token: String,
    pub(super) channel: String,
}

impl Bot {
    fn call(&self, method: &str, body: &Value) -> Call {
        let request = Request::json(Method::POST, &below(&self.api, &[method]), body);
        Call::Request(request.with_token(Some(&self.token)))
    }
}

impl Format for Bot {
    fn post(&self, message: &Message, posted: Option<&str>) -> Result<Call, String> {
        let mut body = body(&self.writer.text(message));
        body["channel"] = json!(self.channel);
        if let Some((channel, timestamp)) = posted.and_then(|posted| posted.split_once(' ')) {
            body["channel"] = json!(channel);
            body["thread_ts"] = json!(timestamp);
            // Else only those who follow the thread see it.
            body["reply_broadcast"] = json!(true);
        }
        Ok(self.call("chat.postMessage", &body))
    }

    fn edit(&self, message: &Message, posted: &str) -> Option<Call> {
        let (channel, timestamp) = posted.split_once(' ')?;
        let mut body = body(&self.writer.text(message));
        body["channel"] = json!(channel);
        body["ts"] = json!(timestamp);
        // An update has no previews of links to turn off.
        let fields = body.as_object_mut()?;
        fields.remove("unfurl_links");
        fields.remove("unfurl_media");
        Some(self.call("chat.update", &body))
    }

    /// Slack answers 200 to most refusals.
    fn read(&self, answer: &Answer) -> Result<Option<String>, Refused> {
        by_status(answer)?;
        let value = answer.value();
        if value["ok"] == true {
            // An update needs the id of the channel, which may be configured by its name.
            let (channel, timestamp) = (value["channel"].as_str(), value["ts"].as_str());
            return Ok(channel.zip(timestamp).map(|(channel, timestamp)| format!("{channel} {timestamp}")));
        }
        let error = value["error"].as_str().unwrap_or("no JSON of Slack's Web API");
        let kind = match error {
            "message_not_found" | "cant_update_message" | "edit_window_closed" => RefusedKind::Gone,
            "ratelimited" | "rate_limited" | "internal_error" | "fatal_error" | "service_unavailable" => {
                RefusedKind::Busy(answer.retry_after)
            }
            _ => RefusedKind::Message,
        };
        Err(Refused { why: format!("Slack answered: {}", redact(&cut(error, 200))), kind })
    }

    fn shows_silence(&self) -> bool {
        true
    }
}

fn body(text: &Text) -> Value {
    let title = format!("{} {}", text.mark(), text.title);
    let fields: Vec<Value> =
        text.facts.iter().map(|(name, value)| plain(&format!("{name}\n{value}"), FIELD_MAX)).collect();
    let mut blocks = vec![
        json!({ "type": "header", "text": plain(&title, HEADER_MAX) }),
        json!({ "type": "section", "text": plain(&text.summary, SECTION_MAX) }),
    ];
    blocks.extend(fields.chunks(FIELDS_MAX).map(|fields| json!({ "type": "section", "fields": fields })));
    if let Some(page) = &text.page {
        let link = format!("<{}|hostprobe's page>", escape(page));
        let element = json!({ "type": "mrkdwn", "text": link, "verbatim": true });
        blocks.push(json!({ "type": "context", "elements": [element] }));
    }
    json!({
        "text": escape(&cut(&format!("{title}: {}", text.summary), 500)),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

fn plain(text: &str, most: usize) -> Value {
    json!({ "type": "plain_text", "text": cut(text, most), "emoji": false })
}

/// The control characters of `mrkdwn`.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
