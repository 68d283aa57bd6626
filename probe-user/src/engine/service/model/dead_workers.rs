//! Processes of a service that died beside its main one.

use std::time::Duration;

use super::fault::Fault;
use crate::{clock::Timestamp, fact::EventId};

/// The most events an incident keeps as evidence; the first and the latest tell the story.
pub const MAX_EVIDENCE: usize = 64;

/// Workers that die again sooner than this do so again and again.
const AGAIN: Duration = Duration::from_secs(60);

/// Workers that died, before it is clear whether their main process outlives them.
#[derive(Debug)]
pub struct DeadWorkers {
    count: u32,
    fault: Fault,
}

impl DeadWorkers {
    pub fn one(fault: Fault) -> Self {
        Self { count: 1, fault }
    }

    /// The same with one that died later.
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

/// How many workers have died, and when.
#[derive(Debug, Default)]
pub struct WorkerDeaths {
    /// Since the service was last well.
    count: u32,
    latest: Option<Timestamp>,
}

impl WorkerDeaths {
    /// Counts more. Says whether workers die again and again.
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
