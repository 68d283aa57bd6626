//! Whether a process of a service listens on the port that refuses its probe.

use std::time::Duration;

use super::recovery::FailureStreak;
use crate::clock::Timestamp;

/// The longest wait for the answer. The daemon reads the descriptors of all processes, for up to two seconds.
pub const CHECK: Duration = Duration::from_secs(3);

/// How long an answer counts. A probe that goes on being refused does not have the daemon read them each time.
const LASTS: Duration = Duration::from_secs(10);

/// A question to the daemon, and its answer.
#[derive(Debug)]
pub struct PortCheck {
    pub port: u16,
    /// The failures that are judged with the answer.
    pub streak: FailureStreak,
    answer: Option<(Timestamp, bool)>,
}

impl PortCheck {
    pub fn new(port: u16, streak: FailureStreak) -> Self {
        Self { port, streak, answer: None }
    }

    pub fn is_pending(&self) -> bool {
        self.answer.is_none()
    }

    pub fn answer(&mut self, held: bool, now: Timestamp) {
        self.answer = Some((now, held));
    }

    /// Whether a process of the service listens, as far as a recent answer says.
    pub fn held(&self, now: Timestamp) -> Option<bool> {
        self.answer.filter(|(at, _)| now.since(*at) < LASTS).map(|(_, held)| held)
    }
}
