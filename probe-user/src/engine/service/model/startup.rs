//! The latest start of a service.

use std::time::Duration;

use crate::clock::Timestamp;

/// Replaced at each start.
#[derive(Debug)]
pub struct Startup {
    at: Timestamp,
    /// Failed probes do not count before this.
    grace_until: Timestamp,
}

impl Startup {
    pub fn new(at: Timestamp, grace: Duration) -> Self {
        Self { at, grace_until: at.plus(grace) }
    }

    /// The known time of the start.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    pub fn grace_until(&self) -> Timestamp {
        self.grace_until
    }

    pub fn set_grace_until(&mut self, until: Timestamp) {
        self.grace_until = until;
    }
}
