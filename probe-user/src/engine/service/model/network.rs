//! Failures of a service's connections to other hosts.

use std::time::Duration;

use crate::{clock::Timestamp, fact::EventId};

/// Evidence against the network counts for this long.
const LASTS: Duration = Duration::from_secs(60);

/// So many retransmits are evidence. A single one is common on any network.
const MANY_RETRANSMITS: u64 = 2;

#[derive(Debug, Default)]
pub struct NetworkTrouble(Option<Trouble>);

#[derive(Debug)]
struct Trouble {
    first: Timestamp,
    last: Timestamp,
    retransmits: u64,
    event: EventId,
    words: String,
}

impl NetworkTrouble {
    pub fn error(&mut self, at: Timestamp, event: EventId, words: String) {
        self.note(at, event, MANY_RETRANSMITS, words);
    }

    pub fn retransmits(&mut self, at: Timestamp, event: EventId, count: u64, words: String) {
        let before = self.recent(at).map_or(0, |trouble| trouble.retransmits);
        self.note(at, event, before.saturating_add(count), words);
    }

    fn note(&mut self, at: Timestamp, event: EventId, retransmits: u64, words: String) {
        let first = self.recent(at).map_or(at, |trouble| trouble.first);
        self.0 = Some(Trouble { first, last: at, retransmits, event, words });
    }

    fn recent(&self, at: Timestamp) -> Option<&Trouble> {
        self.0.as_ref().filter(|trouble| at.since(trouble.last) < 2 * LASTS)
    }

    /// The event that shows the latest trouble.
    pub fn event(&self) -> Option<EventId> {
        self.0.as_ref().map(|trouble| trouble.event)
    }

    /// The connections to other hosts that began to fail at about the same time as the probes. A service does not
    /// need a connection that failed for long while the service was healthy.
    pub fn explains(&self, first_failed: Timestamp, now: Timestamp) -> Option<&str> {
        let trouble = self.0.as_ref()?;
        let fresh = now.since(trouble.last) < LASTS;
        let fits = trouble.first.plus(LASTS) >= first_failed;
        (fresh && fits && trouble.retransmits >= MANY_RETRANSMITS).then_some(trouble.words.as_str())
    }
}
