//! The end of a command that came by itself: what the next start waits for.

use std::{os::fd::OwnedFd, time::Duration};

use crate::{host::OwnCgroup, spawn::has_ended};

/// How long the kernel may take a process apart before it is treated like one that runs.
const EXIT_LIMIT: Duration = Duration::from_millis(100);

/// A command that has ended, or is about to.
pub(super) struct Ending {
    /// Its pidfd; None if it was reaped.
    process: Option<OwnedFd>,
    cgroup: OwnCgroup,
}

impl Ending {
    pub(super) fn new(process: Option<OwnedFd>, cgroup: OwnCgroup) -> Self {
        Self { process, cgroup }
    }

    /// Waits for the end, and says whether no process is left. A death is reported before the kernel has taken the process
    /// apart, which takes a tenth of a millisecond more, and signals would not hasten that.
    pub(super) fn leaves_nothing(&self) -> bool {
        self.process.as_ref().is_none_or(|process| has_ended(process, EXIT_LIMIT))
            && self.cgroup.is_populated().is_ok_and(|populated| !populated)
    }
}
