//! One entry of an incident's timeline.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::emit::{action::Action, clipped, wire::Record};

/// The longest message of an entry, in bytes.
pub(super) const MESSAGE: usize = 1000;

/// What an entry of a timeline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "TimelineAction")]
pub enum What {
    /// An event of the stream, by its `event.action`.
    Event(Action),
    Further(Further),
}

/// What is no event of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Further {
    /// Of `incident.changes`.
    Change,
    /// From the recording: tasks waited for a CPU, memory or a disk.
    Pressure,
}

/// One entry of an incident's timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "TimelineEntry")]
pub struct Entry {
    /// `event.id`; empty if it is no event.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// RFC 3339, UTC.
    pub timestamp: String,
    /// Milliseconds since the fault; negative before it.
    pub after_ms: f64,
    pub action: What,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Whether the verdict was reached from it.
    pub evidence: bool,
    pub message: String,
}

/// The entry of an event, with at most so many bytes of its message.
pub(super) fn entry(record: &Record, most: usize) -> Entry {
    Entry {
        id: record.event.id.clone(),
        timestamp: record.timestamp.clone(),
        after_ms: 0.0,
        action: What::Event(record.event.action),
        service: record.service.as_ref().map(|service| service.name.clone()),
        evidence: false,
        message: clipped(&record.message, most),
    }
}
