//! The processes of commands that have no cgroup, after their parents have ended.
//!
//! The daemon becomes their parent (`PR_SET_CHILD_SUBREAPER`), instead of init. So they stay below the daemon, where a stop
//! of their service finds them by a variable of their environment. In return the daemon has to wait for them. What a
//! daemon left behind that was killed, the next one finds by the same variable.

use std::process;

use rustix::{
    io,
    process::{Pid, WaitId, WaitIdOptions, getpid, set_child_subreaper, waitid},
};

use crate::{
    fact::ProcessKey,
    host::{FileId, Owner, ProcReader},
};

/// The variable that marks the processes of a command without a cgroup.
pub const MARK: &str = "HOSTPROBE_SERVICE";

#[derive(Debug)]
pub struct Orphans {
    processes: ProcReader,
    /// Those that had ended the last time.
    ended: Vec<ProcessKey>,
}

impl Orphans {
    /// Makes the daemon the parent of its descendants that lose theirs.
    pub fn adopt(processes: ProcReader) -> io::Result<Self> {
        set_child_subreaper(Some(getpid()))?;
        Ok(Self { processes, ended: Vec::new() })
    }

    /// Waits for orphans that have ended. The daemon waits for its own children sooner than at the next call: what has
    /// ended before the last call is no child of its own.
    pub fn reap(&mut self) {
        let ended = self.processes.zombies_of(process::id());
        for orphan in ended.iter().filter(|orphan| self.ended.contains(orphan)) {
            if let Some(pid) = i32::try_from(orphan.pid).ok().and_then(Pid::from_raw) {
                let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            }
        }
        self.ended = ended;
    }
}

/// The mark of a daemon's processes of a service.
pub(super) fn mark(processes: &ProcReader, owner: Owner, service: &str) -> String {
    format!("{}/{service}", processes.cgroups().owner_name(owner))
}

/// Whether a process has the mark of a service, by this daemon or by one that has abandoned it. `state` is the state
/// directory of this daemon.
pub(super) fn is_marked(processes: &ProcReader, pid: u32, service: &str, state: Option<FileId>) -> bool {
    let Some(found) = processes.variable(pid, MARK) else { return false };
    let Some((owner, name)) = found.split_once('/') else { return false };
    let lives = |owner: ProcessKey| owner.pid != process::id() && processes.key_of(owner.pid) == Some(owner);
    name == service
        && processes.cgroups().owner_named(owner).is_some_and(|owner| owner.has_abandoned(state, lives))
}
