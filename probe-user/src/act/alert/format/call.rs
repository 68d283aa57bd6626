//! What a format writes and reads: calls, and the answers to them.

use std::{fmt::Debug, time::Duration};

use lettre::address::Envelope;
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use crate::{
    act::alert::{notification::Notification, outbox::Message},
    redact::redact,
};

/// The quoted part of a refusal, in bytes.
const QUOTED: usize = 300;

/// A receiver that asks for a longer pause is asked again sooner.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// A mail, and from whom to whom the server is to bring it.
#[derive(Debug)]
pub(in crate::act::alert) struct Mail {
    pub(in crate::act::alert) envelope: Envelope,
    /// As it is sent.
    pub(in crate::act::alert) bytes: Vec<u8>,
}

/// What is sent at once.
#[derive(Debug)]
pub(in crate::act::alert) enum Call {
    Request(Request),
    Mail(Box<Mail>),
}

/// A request over HTTP.
#[derive(Debug)]
pub(in crate::act) struct Request {
    pub(in crate::act) method: Method,
    pub(in crate::act) url: Url,
    /// Names and values, which may be secrets.
    pub(in crate::act) headers: Vec<(String, String)>,
    pub(in crate::act) body: Vec<u8>,
}

impl Request {
    pub(super) fn json(method: Method, url: &Url, body: &Value) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { method, url: url.clone(), headers, body: body.to_string().into_bytes() }
    }

    pub(super) fn with_token(mut self, token: Option<&str>) -> Self {
        let value = token.map(|token| format!("Bearer {token}"));
        self.headers.extend(value.map(|value| ("authorization".to_owned(), value)));
        self
    }
}

/// The answer to a call.
#[derive(Debug)]
pub(in crate::act) struct Answer {
    pub(in crate::act) status: StatusCode,
    /// The beginning of it.
    pub(in crate::act) body: Vec<u8>,
    /// How long the receiver asks to wait.
    pub(in crate::act) retry_after: Option<Duration>,
}

impl Answer {
    pub(super) fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Why a receiver did not take a message.
#[derive(Debug)]
pub(in crate::act::alert) struct Refused {
    pub(in crate::act::alert) why: String,
    pub(in crate::act::alert) kind: RefusedKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::act::alert) enum RefusedKind {
    /// It takes none now; perhaps after so long.
    Busy(Option<Duration>),
    /// It does not take this one. It may take others.
    Message,
    /// What was to be updated does not exist any more.
    Gone,
}

/// Writes the messages of one receiver.
pub(in crate::act::alert) trait Format: Debug + Send + Sync {
    /// A message of its own. It belongs to what was `posted` about the incident before.
    fn post(&self, message: &Message, posted: Option<&str>) -> Result<Call, String>;

    /// The update of what was `posted`; None if this receiver has no updates.
    fn edit(&self, _message: &Message, _posted: &str) -> Option<Call> {
        None
    }

    /// Repeats all firing alerts; None if this receiver needs no repetition.
    fn refresh(&self, _firing: &[Notification]) -> Option<Call> {
        None
    }

    /// What the answer to a post or an edit says: the receiver's own name for the message, if it has one.
    fn read(&self, answer: &Answer) -> Result<Option<String>, Refused> {
        by_status(answer).map(|()| None)
    }

    /// Whether it shows that an incident is acknowledged where it shows the incident.
    fn shows_silence(&self) -> bool {
        false
    }
}

/// The address with further parts of its path, before its query.
pub(super) fn below(url: &Url, parts: &[&str]) -> Url {
    let mut url = url.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(parts);
    }
    url
}

/// What the status of an answer says.
pub(super) fn by_status(answer: &Answer) -> Result<(), Refused> {
    let status = answer.status;
    if status.is_success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&answer.body);
    let words = words.trim();
    let words = &words[..words.floor_char_boundary(QUOTED)];
    let why = if words.is_empty() {
        format!("the receiver answered {status}")
    } else {
        format!("the receiver answered {status}: {}", redact(words))
    };
    let busy = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    let pause = answer.retry_after.map(|pause| pause.min(LONGEST_PAUSE));
    let kind = if busy || status.is_server_error() { RefusedKind::Busy(pause) } else { RefusedKind::Message };
    Err(Refused { why, kind })
}

/// The text with at most `most` characters; a shortened one ends with `…`.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}
