//! The numbers that facts refer to.

use serde::{Deserialize, Serialize};

/// An event's place in the stream, from 1 at the daemon's start; evidence refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventId(pub u64);

/// A configured or discovered service, by its position in the running configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceId(pub u32);

impl ServiceId {
    /// hostprobe itself, as the subject of an incident. It is no position in the configuration.
    pub const DAEMON: Self = Self(u32::MAX);
}
