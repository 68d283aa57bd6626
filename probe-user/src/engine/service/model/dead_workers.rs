//! Deaths of a service's workers.

use std::time::Duration;

use super::fault::Fault;
use crate::{clock::Timestamp, fact::EventId};

/// The most events that an incident keeps as evidence.
pub const MAX_EVIDENCE: usize = 64;

/// The longest time between a worker's death and its main process's death that counts as one death.
pub const TOGETHER: Duration = Duration::from_millis(50);

/// Deaths that follow each other sooner than this are repeated deaths.
const AGAIN: Duration = Duration::from_secs(60);

/// Dead workers, until it is clear whether the main process outlives them.
#[derive(Debug)]
pub struct DeadWorkers {
    count: u32,
    fault: Fault,
}

impl DeadWorkers {
    pub fn one(fault: Fault) -> Self {
        Self { count: 1, fault }
    }

    /// Adds a later death.
    pub fn and(self, mut later: Fault) -> Self {
        let mut evidence = self.fault.evidence;
        if evidence.len() < MAX_EVIDENCE {
            evidence.append(&mut later.evidence);
        }
        let fault =
            Fault { since: self.fault.since, urgent: self.fault.urgent || later.urgent, evidence, ..later };
        Self { count: self.count.saturating_add(1), fault }
    }

    pub fn into_evidence(self) -> Vec<EventId> {
        self.fault.evidence
    }

    /// The fault, and how many workers died.
    pub fn into_parts(self) -> (Fault, u32) {
        (self.fault, self.count)
    }
}

/// The number of dead workers and their last death.
#[derive(Debug, Default)]
pub struct WorkerDeaths {
    /// Since the service was last healthy.
    count: u32,
    latest: Option<Timestamp>,
}

impl WorkerDeaths {
    /// Counts deaths. True for repeated deaths.
    pub fn add(&mut self, count: u32, now: Timestamp) -> bool {
        self.count = self.count.saturating_add(count);
        self.latest.replace(now).is_some_and(|last| now.since(last) < AGAIN)
    }

    pub fn count(&self) -> u32 {
        self.count
    }

    pub fn reset_count(&mut self) {
        self.count = 0;
    }
}
