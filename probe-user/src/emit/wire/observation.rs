//! What a replay of the engine's decisions needs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The engine at the daemon's start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// When it began to count time, in nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub start_ns: u64,
    /// Whether it was told to restart nothing.
    pub observe: bool,
    /// The fingerprint of what decides in the configuration; two that are equal decide alike.
    pub digest: String,
    /// The services' names in the order of the configuration, at most 256.
    pub services: Vec<String>,
}

/// What the engine took in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// When, in nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub at_ns: u64,
    /// The names of the services in it; `seen` refers to them by their positions here, from 0.
    pub services: Vec<String>,
    /// The observation itself, for a hostprobe of the same version to read. Absent where nothing was observed and a
    /// deadline of the engine's own was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Value>,
    /// Parts of it were left out for want of room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clipped: bool,
}
