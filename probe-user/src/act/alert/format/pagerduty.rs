//! PagerDuty's Events API v2: an alert with a key of its own is triggered, acknowledged and resolved.

use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::{
    call::{Call, Format, Request, cut},
    text::{State, Writer},
};
use crate::{act::alert::outbox::Message, fact::Severity};

/// The longest summary and the longest key, in characters.
const SUMMARY_MAX: usize = 1024;
const KEY_MAX: usize = 255;

#[derive(Debug)]
pub(super) struct Pagerduty {
    pub(super) writer: Writer,
    pub(super) url: Url,
    /// The integration key.
    pub(super) key: String,
}

impl Format for Pagerduty {
    fn post(&self, message: &Message, _: Option<&str>) -> Result<Call, String> {
        Ok(Call::Request(Request::json(Method::POST, &self.url, &self.body(message))))
    }

    fn shows_silence(&self) -> bool {
        true
    }
}

impl Pagerduty {
    fn body(&self, message: &Message) -> Value {
        let text = self.writer.text(message);
        let alert = &message.notification.alert;
        let key = cut(&text.id, KEY_MAX);
        let action = match text.state {
            State::Open(_) => "trigger",
            State::Acknowledged => "acknowledge",
            State::Resolved => "resolve",
        };
        if action != "trigger" {
            return json!({ "routing_key": self.key, "event_action": action, "dedup_key": key });
        }
        let severity = match alert.incident.severity {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        let details: serde_json::Map<String, Value> =
            text.facts.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let mut body = json!({
            "routing_key": self.key,
            "event_action": action,
            "dedup_key": key,
            "client": "hostprobe",
            "payload": {
                "summary": cut(&format!("{}: {}", text.title, text.summary), SUMMARY_MAX),
                "source": self.writer.origin.host_name,
                "severity": severity,
                "timestamp": format!("{:.3}", message.notification.since),
                "component": alert.service(),
                "class": alert.incident.verdict.as_str(),
                "custom_details": details,
            },
        });
        if let Some(page) = text.page {
            body["client_url"] = json!(page);
        }
        body
    }
}
