//! One line of a recording.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Decision;

/// One line: an observation or a decision of the engine, with its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The run of the daemon: `agent.ephemeral_id` of its events.
    pub run: String,
    /// Counts from 1 in the run; a gap is loss. 0 for the start, which each segment begins with.
    pub sequence: u64,
    /// RFC 3339, UTC.
    #[serde(rename = "@timestamp")]
    pub timestamp: String,
    /// The same in nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub at_ns: u64,
    /// Its content.
    #[serde(flatten)]
    pub entry: Entry,
}

/// The content of a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    Start(Start),
    /// The engine ticks.
    Tick {},
    /// The engine observes.
    Observation(Seen),
    /// The engine decided.
    Decision(Decision),
}

/// The engine's state at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The version of the daemon.
    pub version: String,
    /// The start of its clock, in nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub start_ns: u64,
    /// Whether restarts are off.
    pub observe: bool,
    /// The fingerprint of the configuration's decisive parts; equal fingerprints lead to equal decisions.
    pub digest: String,
    /// The services' names in the order of the configuration, at most [`MOST_SERVICES`].
    pub services: Vec<String>,
}

/// The most services that a start names, so that it fits a line.
pub const MOST_SERVICES: usize = 256;

/// An observation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// The names of the services in it; `seen` refers to them by their positions here, from 0.
    pub services: Vec<String>,
    /// The observation itself, for a hostprobe of the same version to read.
    pub seen: Value,
    /// Parts are missing, because the line would have been too long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clipped: bool,
}
