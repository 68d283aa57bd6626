//! Knowledge of one main process, which says nothing about the next one.

use std::time::Duration;

use super::{
    breaches::Breaches,
    dead_workers::{DeadWorkers, TOGETHER},
    listeners::LostListener,
    liveness::Liveness,
    port_check::PortCheck,
};
use crate::{
    clock::Timestamp,
    fact::{EventId, ExitStatus, ProcessExit, Sender, Verdict},
};

/// How long a wrapper may take to exit after its child.
const WRAPPER: Duration = Duration::from_secs(1);

/// Replaced as a whole when the main process ends, or another one takes its place.
#[derive(Debug, Default)]
pub struct Generation {
    pub lost_listener: Option<LostListener>,
    /// The latest check of the port that refuses a probe.
    pub port_check: Option<PortCheck>,
    pub liveness: Liveness,
    /// Dead workers, until it is clear whether the main process outlives them.
    pub dead_workers: Option<DeadWorkers>,
    pub breaches: Breaches,
    /// The child that died last, which may be the reason for the exit of its main process.
    pub dead_child: Option<DeadChild>,
    /// Another process asked it to end, and it has closed a listener since.
    pub asked_to_end: Option<Timestamp>,
    /// When the service was first healthy with it.
    pub healthy_at: Option<Timestamp>,
    /// It began to listen itself, or took over a listener.
    pub listened: bool,
}

/// A process of the service that ended, and not with success.
#[derive(Debug)]
pub struct DeadChild {
    pub at: Timestamp,
    pub event: EventId,
    /// How it ended, for people.
    pub words: String,
    pub status: ExitStatus,
    /// The verdict on a main process that ended like this.
    pub verdict: Verdict,
    /// It ended by a signal that ends workers in an orderly way.
    pub orderly: bool,
    /// Another process asked it to end.
    pub asked: bool,
}

impl DeadChild {
    /// Whether a main process may have ended because of it: a shell that waits for its command exits, and `timeout`,
    /// `unshare` or `sudo` end themselves by the signal that ended their child.
    pub fn explains(&self, exit: &ProcessExit) -> bool {
        let as_wrapper = match exit.status {
            ExitStatus::Code(_) => !self.orderly,
            ExitStatus::Signal { .. } => self.is_repeated_by(exit),
            ExitStatus::Unknown => false,
        };
        as_wrapper && exit.at.since(self.at) < WRAPPER
    }

    /// Whether the main process ended itself by the signal that ended this one.
    pub fn is_repeated_by(&self, exit: &ProcessExit) -> bool {
        exit.killer() == Some(&Sender::Itself) && self.status.signal() == exit.status.signal()
    }

    /// Whether this end rather than an earlier one may be the reason for the end of the main process. Of several that
    /// fail together, the first is the reason for the others, and no orderly end hides a failure.
    pub fn replaces(&self, earlier: &Self) -> bool {
        self.at.since(earlier.at) >= if self.orderly && !earlier.orderly { WRAPPER } else { TOGETHER }
    }
}
