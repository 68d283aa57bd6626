//! What a drill has to undo, and its record: it outlives the daemon, so that no service stays frozen or limited.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::{error::DrillError, listeners::OpenListener, memory::GroupLimits, process::ProcessHandle};
use crate::{fact::ProcessKey, host::ProcReader};

/// The record in the state directory.
const FILE: &str = "drill.json";

/// The largest record that is read: a thousand processes take far less.
const RECORD_MAX: u64 = 1 << 20;

/// Whatever of it is already undone, or gone, is left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    pub service: String,
    /// Those that were stopped.
    #[serde(default)]
    pub processes: Vec<ProcessKey>,
    /// Those that were shut down.
    #[serde(default)]
    pub listeners: Vec<OpenListener>,
    #[serde(default)]
    pub limits: Option<GroupLimits>,
}

impl Undo {
    pub(super) fn of(service: &str) -> Self {
        Self { service: service.to_owned(), processes: Vec::new(), listeners: Vec::new(), limits: None }
    }

    pub(super) fn with_listeners(self, listeners: &[OpenListener]) -> Self {
        Self { listeners: listeners.to_vec(), ..self }
    }

    pub(super) fn with_limits(self, limits: GroupLimits) -> Self {
        Self { limits: Some(limits), ..self }
    }

    /// Writes the record. A crash of the daemon keeps it; a loss of power ends what it is about as well.
    pub(super) fn keep(&self, directory: &Path) -> Result<(), DrillError> {
        let path = directory.join(FILE);
        let failed = |source: io::Error| DrillError::Record { path: path.clone(), source };
        let text = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        // A record that is cut off is worth nothing, so the earlier one stays until the new one is whole.
        let next = directory.join(format!("{FILE}.next"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&next)
            .map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        fs::rename(&next, &path).map_err(failed)
    }

    /// Undoes it, and removes the record. Returns what was done, a sentence each. A failure is logged.
    pub fn carry_out(&self, directory: &Path, reader: &ProcReader) -> Vec<String> {
        let (mut done, mut failed) = (Vec::new(), false);
        let mut continued = 0;
        // The main process comes last, as it came first.
        for key in self.processes.iter().rev() {
            match ProcessHandle::open(*key, reader).and_then(|process| process.signal(Signal::CONT)) {
                Ok(()) => continued += 1,
                Err(DrillError::Gone { .. }) => {}
                Err(error) => {
                    failed = true;
                    tracing::error!(
                        "{}: a drill stopped its process {}, which cannot be continued: {error}; continue it with \
                         `kill -CONT {}`",
                        self.service,
                        key.pid,
                        key.pid
                    );
                }
            }
        }
        if continued > 0 {
            done.push(format!("SIGCONT to {continued} of its processes"));
        }
        for listener in &self.listeners {
            match listener.revive(reader) {
                Ok(true) => done.push(format!(
                    "its process {} listens on port {} again",
                    listener.process.pid,
                    listener.address.port()
                )),
                // Its process, or the socket, is gone.
                Ok(false) | Err(DrillError::Gone { .. } | DrillError::NoListener) => {}
                Err(error) => tracing::error!(
                    "{}: a drill shut its listener on port {} down, which cannot listen again: {error}; restart the service",
                    self.service,
                    listener.address.port()
                ),
            }
        }
        if let Some(limits) = &self.limits {
            done.extend(limits.restore(&self.service));
        }
        // The next daemon tries again.
        if !failed
            && let Err(error) = fs::remove_file(directory.join(FILE))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(
                "{}: cannot remove the record of a drill: {error}",
                directory.join(FILE).display()
            );
        }
        done
    }

    /// What an earlier run of the daemon has left to undo.
    pub fn left(directory: &Path) -> Option<Self> {
        let path: PathBuf = directory.join(FILE);
        let read = || -> io::Result<Option<Self>> {
            match fs::metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
                Ok(file) if file.len() > RECORD_MAX => return Err(io::Error::other("it is too large")),
                Ok(_) => {}
            }
            Ok(Some(serde_json::from_slice(&fs::read(&path)?)?))
        };
        read().unwrap_or_else(|error| {
            tracing::error!("{}: the record of a drill cannot be read: {error}", path.display());
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn state(pid: u32) -> char {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().trim().chars().next().unwrap()
    }

    #[test]
    fn what_is_left_to_undo_is_undone_by_the_next_daemon_and_touches_no_other_process() {
        let folder = tempfile::tempdir().unwrap();
        let reader = ProcReader::new("/").unwrap();
        assert_eq!(Undo::left(folder.path()), None);
        let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let key = reader.key_of(child.id()).unwrap();
        let other = ProcessKey { start: crate::clock::Timestamp::from_nanos(1), ..key };
        let undo = Undo { processes: vec![key, other], ..Undo::of("web") };
        undo.keep(folder.path()).unwrap();
        ProcessHandle::open(key, &reader).unwrap().signal(Signal::STOP).unwrap();
        rustix::process::waitpid(
            rustix::process::Pid::from_raw(child.id().cast_signed()),
            rustix::process::WaitOptions::UNTRACED,
        )
        .unwrap();
        assert_eq!(state(child.id()), 'T');
        let left = Undo::left(folder.path()).unwrap();
        assert_eq!(left, undo);
        assert_eq!(left.carry_out(folder.path(), &reader), ["SIGCONT to 1 of its processes"]);
        assert_ne!(state(child.id()), 'T');
        assert_eq!(Undo::left(folder.path()), None, "it is done");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_record_that_cannot_be_read_is_no_record() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(Undo::left(folder.path()), None);
    }
}
