//! Knowledge of one main process, which says nothing about the next one.

use std::time::Duration;

use super::{breaches::Breaches, dead_workers::DeadWorkers, listeners::LostListener, liveness::Liveness};
use crate::{
    clock::Timestamp,
    fact::{EventId, ExitStatus, ProcessExit},
};

/// How long a wrapper may take to exit after its child.
const WRAPPER: Duration = Duration::from_secs(1);

/// Replaced as a whole when the main process ends, or another one takes its place.
#[derive(Debug, Default)]
pub struct Generation {
    pub lost_listener: Option<LostListener>,
    pub liveness: Liveness,
    /// Dead workers, until it is clear whether the main process outlives them.
    pub dead_workers: Option<DeadWorkers>,
    pub breaches: Breaches,
    /// The child that died last, which may be the reason for the exit of its main process.
    pub dead_child: Option<DeadChild>,
}

/// A process of the service that failed.
#[derive(Debug)]
pub struct DeadChild {
    pub at: Timestamp,
    pub event: EventId,
    /// How it ended, for people.
    pub words: String,
}

impl DeadChild {
    /// Whether a main process may have exited because of it, as a shell that waits for its command does.
    pub fn explains(&self, exit: &ProcessExit) -> bool {
        matches!(exit.status, ExitStatus::Code(_)) && exit.at.since(self.at) < WRAPPER
    }
}
