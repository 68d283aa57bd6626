//! Microsoft Teams: an adaptive card to a workflow that posts what its webhook gets.
//!
//! Text stands in `TextRun`, in which an adaptive card reads no markup.

use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::{
    call::{Call, Format, Request},
    text::{State, Text, Writer},
};
use crate::{act::alert::outbox::Message, fact::Severity};

#[derive(Debug)]
pub(super) struct Teams {
    pub(super) writer: Writer,
    pub(super) url: Url,
}

impl Format for Teams {
    fn post(&self, message: &Message, _: Option<&str>) -> Result<Call, String> {
        let body = body(&self.writer.text(message));
        Ok(Call::Request(Request::json(Method::POST, &self.url, &body)))
    }
}

fn body(text: &Text) -> Value {
    let color = match text.state {
        State::Open(Severity::Critical) => "attention",
        State::Open(Severity::Warning) => "warning",
        State::Open(Severity::Info) | State::Acknowledged => "accent",
        State::Resolved => "good",
    };
    let title = format!("{} {}", text.mark(), text.title);
    let title =
        json!({ "type": "TextRun", "text": title, "size": "large", "weight": "bolder", "color": color });
    let mut parts = vec![
        json!({ "type": "RichTextBlock", "inlines": [title] }),
        json!({ "type": "RichTextBlock", "inlines": [{ "type": "TextRun", "text": text.summary }] }),
    ];
    parts.extend(text.facts.iter().map(|(name, value)| {
        let name = json!({ "type": "TextRun", "text": format!("{name}: "), "weight": "bolder" });
        json!({ "type": "RichTextBlock", "spacing": "none", "inlines": [name, { "type": "TextRun", "text": value }] })
    }));
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": { "width": "full" },
        "body": parts,
    });
    if let Some(page) = &text.page {
        card["actions"] = json!([{ "type": "Action.OpenUrl", "title": "hostprobe's page", "url": page }]);
    }
    json!({
        "type": "message",
        "attachments": [{ "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card }],
    })
}
