//! Takes down what the engine decides in a replay.

use crate::{
    clock::Timestamp,
    emit::{Names, Origin},
    engine::{Effect, Effects},
    fact::{EventId, Fact},
    store::recording::Decision,
};

/// A decision and when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimedDecision {
    /// RFC 3339, UTC.
    pub(super) timestamp: String,
    pub(super) decision: Decision,
}

impl TimedDecision {
    /// When it was made.
    pub(super) fn at(&self) -> jiff::Timestamp {
        self.timestamp.parse().unwrap_or_default()
    }
}

/// Takes down what the engine decides, and carries out nothing.
pub(super) struct Ledger {
    pub(super) names: Names,
    origin: Origin,
    published: u64,
    /// Nanoseconds by which the wall clock's count is ahead of the time since boot.
    pub(super) wall_ahead: i128,
    pub(super) decisions: Vec<TimedDecision>,
}

impl Ledger {
    pub(super) fn new(names: Names, run: &str) -> Self {
        let (host_name, boot_id) = (String::new(), String::new());
        let origin = Origin { host_name, boot_id, ephemeral_id: run.to_owned() };
        Self { names, origin, published: 0, wall_ahead: 0, decisions: Vec::new() }
    }
}

impl Effects for Ledger {
    fn publish(&mut self, fact: Fact, at: Timestamp) -> EventId {
        self.published += 1;
        if let Some(decision) = Decision::of(&fact, &self.names, &self.origin) {
            let wall = jiff::Timestamp::from_nanosecond(i128::from(at.as_nanos()) + self.wall_ahead);
            let timestamp = format!("{:.9}", wall.unwrap_or(jiff::Timestamp::UNIX_EPOCH));
            self.decisions.push(TimedDecision { timestamp, decision });
        }
        EventId(self.published)
    }

    fn request(&mut self, _effect: Effect) {}
}
