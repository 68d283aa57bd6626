//! ntfy: a message to a topic, as JSON to the root of the server.
//!
//! Messages about an incident have its id as their `sequence_id`: ntfy from 2.16 on shows the latest in place of the
//! earlier. Older servers show each.

use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::{
    call::{Call, Format, Request},
    text::{State, Text, Writer},
};
use crate::{act::alert::outbox::Message, emit::clipped, fact::Severity};

/// A longer message becomes an attachment, in bytes.
const MESSAGE_MAX: usize = 4000;

/// A title is one line of a notification, in bytes.
const TITLE_MAX: usize = 250;

/// What a `sequence_id` has.
const ID_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Ntfy {
    writer: Writer,
    /// The server's root.
    root: Url,
    topic: String,
    token: Option<String>,
}

impl Ntfy {
    /// The last part of the path is the topic.
    pub(super) fn new(writer: Writer, url: Url, token: Option<String>) -> Self {
        let topic =
            url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default().to_owned();
        let mut root = url;
        if let Ok(mut path) = root.path_segments_mut() {
            path.pop().push("");
        }
        Self { writer, root, topic, token }
    }

    fn body(&self, text: &Text, is_reminder: bool) -> Value {
        let lines: Vec<String> = text.lines().collect();
        let (priority, tag) = match text.state {
            State::Open(Severity::Critical) => (5, "rotating_light"),
            State::Open(Severity::Warning) => (4, "warning"),
            State::Open(Severity::Info) => (2, "information_source"),
            State::Acknowledged => (2, "eyes"),
            State::Resolved => (3, "white_check_mark"),
        };
        let mut body = json!({
            "topic": self.topic,
            "title": clipped(&text.title, TITLE_MAX),
            "message": clipped(&lines.join("\n"), MESSAGE_MAX),
            "priority": priority,
            "tags": [tag, "hostprobe"],
        });
        // A reminder is to be heard, and an update is not.
        if !is_reminder && text.id.len() <= ID_MAX {
            body["sequence_id"] = json!(text.id);
        }
        if let Some(page) = &text.page {
            body["click"] = json!(page);
        }
        body
    }
}

impl Format for Ntfy {
    fn post(&self, message: &Message, _: Option<&str>) -> Result<Call, String> {
        let body = self.body(&self.writer.text(message), message.is_reminder);
        let request = Request::json(Method::POST, &self.root, &body);
        Ok(Call::Request(request.with_token(self.token.as_deref())))
    }
}
