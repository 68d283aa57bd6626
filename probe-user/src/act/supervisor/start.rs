//! The start of a command, on a thread that waits until it has executed.

use std::path::Path;

use rustix::process::Signal;

use super::{
    error::SupervisorError,
    left::signal_group,
    output::{Followed, Opened, OutputError},
};
use crate::{
    config::Exec,
    descriptors,
    fact::ProcessKey,
    host::ProcReader,
    spawn::{Child, prepare},
};

/// A command that was started. It is killed if its start took so long that the supervisor has given it up.
pub(super) struct Started {
    pub(super) key: ProcessKey,
    pub(super) child: Option<Child>,
    pub(super) followed: Option<Followed>,
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.child.is_some() {
            signal_group(self.key.pid, Signal::KILL);
        }
    }
}

/// Starts a command. All that it takes is prepared before `may_start`, which waits until that is known. None if it may not.
pub(super) fn start(
    exec: &Exec,
    open: impl Fn() -> Result<Opened, OutputError>,
    may_start: impl Fn() -> bool,
    cgroup: Option<&Path>,
    processes: &ProcReader,
) -> Result<Option<Started>, SupervisorError> {
    let start = || start_once(exec, open(), &may_start, cgroup, processes);
    descriptors::reserved(start, SupervisorError::is_exhausted)
}

fn start_once(
    exec: &Exec,
    output: Result<Opened, OutputError>,
    may_start: impl Fn() -> bool,
    cgroup: Option<&Path>,
    processes: &ProcReader,
) -> Result<Option<Started>, SupervisorError> {
    let Opened { descriptor, followed } = output.map_err(SupervisorError::Output)?;
    let command = || exec.command.first().cloned().unwrap_or_default();
    let failed = |source| SupervisorError::Spawn { command: command(), source };
    let prepared = prepare(exec, &descriptor, &descriptor, cgroup).map_err(failed)?;
    if !may_start() {
        return Ok(None);
    }
    let child = prepared.start().map_err(failed)?;
    let Some(key) = processes.key_of(child.pid) else {
        return Err(SupervisorError::Gone { command: command(), pid: child.pid });
    };
    Ok(Some(Started { key, child: Some(child), followed }))
}
