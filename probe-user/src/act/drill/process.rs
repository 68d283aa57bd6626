//! The processes of a service, each by a descriptor that stays its own when its pid is used again.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::error::DrillError;
use crate::{fact::ProcessKey, host::ProcReader, spawn::has_ended};

#[derive(Debug)]
pub(super) struct ProcessHandle {
    pub(super) key: ProcessKey,
    pidfd: OwnedFd,
}

impl ProcessHandle {
    /// Fails if exactly this process does not run any more.
    pub(super) fn open(key: ProcessKey, reader: &ProcReader) -> Result<Self, DrillError> {
        let gone = DrillError::Gone { pid: key.pid };
        let Some(pid) = i32::try_from(key.pid).ok().and_then(Pid::from_raw) else { return Err(gone) };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Err(gone),
            Err(errno) => return Err(DrillError::Signal { pid: key.pid, source: errno.into() }),
        };
        // The descriptor came first: a process that took the pid over has another start.
        if reader.runs(key) {
            return Ok(Self { key, pidfd });
        }
        let is_another = reader.key_of(key.pid).is_some_and(|other| other != key);
        if is_another || has_ended(&pidfd, Duration::ZERO) {
            return Err(gone);
        }
        Err(DrillError::Signal { pid: key.pid, source: io::Error::other("/proc does not show it") })
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), DrillError> {
        pidfd_send_signal(&self.pidfd, signal).map_err(|errno| self.failed(errno.into()))
    }

    /// Whether the daemon has the right to signal it.
    pub(super) fn may_signal(&self) -> Result<(), DrillError> {
        // SAFETY: the descriptor is open, and signal 0 with no details only asks whether a signal could be sent.
        let asked = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.pidfd.as_raw_fd(), 0, std::ptr::null::<()>(), 0)
        };
        if asked == 0 { Ok(()) } else { Err(self.failed(io::Error::last_os_error())) }
    }

    fn failed(&self, source: io::Error) -> DrillError {
        let pid = self.key.pid;
        if source.raw_os_error() == Some(libc::ESRCH) {
            return DrillError::Gone { pid };
        }
        DrillError::Signal { pid, source }
    }
}

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// A process and its descendants that run, itself first. What runs in another cgroup than the process, and not below its
/// own, is left out: it belongs to something else.
pub(super) fn family(main: ProcessKey, reader: &ProcReader) -> Vec<ProcessKey> {
    let group = |pid| reader.cgroups().of(pid).v2.unwrap_or_default();
    let own = group(main.pid);
    let below = format!("{}/", own.trim_end_matches('/'));
    let is_apart = |pid| {
        let group = group(pid);
        group != own && !group.starts_with(&below)
    };
    let descendants = reader.descendants(main.pid, is_apart);
    [main].into_iter().chain(descendants).filter(|key| reader.runs(*key)).collect()
}
