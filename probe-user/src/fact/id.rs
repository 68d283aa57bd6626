//! The numbers that facts refer to.

use serde::{Deserialize, Serialize};

/// An event's place in the stream, from 1 at the daemon's start; evidence refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventId(pub u64);

/// A configured or discovered service, numbered from 0 in the order of the configuration. A reload keeps the numbers of
/// services that stay, and uses none again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceId(pub u32);

impl ServiceId {
    /// hostprobe itself, as the subject of an incident. No service has this number.
    pub const DAEMON: Self = Self(u32::MAX);

    /// The host, as the subject of an incident. No service has this number.
    pub const HOST: Self = Self(u32::MAX - 1);

    /// The first number of services on other hosts. No service of this host has one of these.
    pub const FIRST_FOREIGN: u32 = 1 << 31;

    /// The most services of other hosts that have a number.
    pub const FOREIGN_MAX: u32 = 1024;

    /// Whether it is a service of another host.
    pub const fn is_foreign(self) -> bool {
        self.0 >= Self::FIRST_FOREIGN && self.0 < Self::FIRST_FOREIGN + Self::FOREIGN_MAX
    }
}
