//! Where a pid with a start time names one process: in one pid namespace, until the host boots.

use serde::{Deserialize, Serialize};

use super::{ProcReader, place, read_text};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidScope {
    /// The kernel's boot id; empty if unreadable.
    pub boot_id: String,
    /// The inode of the pid namespace; None if unreadable.
    pub pid_namespace: Option<u32>,
}

impl PidScope {
    /// Whether all of it is known, so that it can be compared.
    pub fn is_known(&self) -> bool {
        !self.boot_id.is_empty() && self.pid_namespace.is_some()
    }
}

impl ProcReader {
    /// The scope of the pids that this process sees.
    pub fn pid_scope(&self) -> PidScope {
        let boot_id = read_text(&self.proc.join("sys/kernel/random/boot_id"), 64).unwrap_or_default();
        PidScope { boot_id: boot_id.trim().to_owned(), pid_namespace: place::namespace(&self.proc, "pid") }
    }
}
