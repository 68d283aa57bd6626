//! The state directory, which belongs to one daemon at a time.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};

use crate::host::{FileId, private_folder};

/// The file that a running daemon keeps locked. It holds the daemon's pid, for the message to a second daemon.
const LOCK: &str = "lock";

/// The daemon does not get the state directory.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error(
        "{}: another hostprobe{holder} keeps its state there; stop it, or set [state] directory to another folder",
        path.display()
    )]
    InUse {
        path: PathBuf,
        /// Its pid in words, if it is known.
        holder: String,
    },
    #[error(
        "{}: the daemon cannot record to this folder: {why}, and forgets operators' stops and pauses when it ends; let \
         [state] directory name a folder that only the daemon's user may write to",
        path.display()
    )]
    Unusable { path: PathBuf, why: String },
}

/// The lock on the state directory. The kernel drops it when the daemon ends, however that happens.
#[derive(Debug)]
pub struct StateDirectory {
    _lock: File,
    /// Its identity, whatever its path.
    pub id: FileId,
}

impl StateDirectory {
    /// Takes the directory for this daemon, and creates it if it is missing.
    pub fn take(path: &Path) -> Result<Self, DirectoryError> {
        let unusable = |why: String| DirectoryError::Unusable { path: path.to_owned(), why };
        let failed = |error: io::Error| unusable(error.to_string());
        let folder = private_folder::open(path).map_err(unusable)?;
        let id = FileId::of(&folder).map_err(failed)?;
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock =
            openat(&folder, LOCK, flags, Mode::RUSR | Mode::WUSR).map_err(|error| failed(error.into()))?;
        let mut lock = File::from(lock);
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(DirectoryError::InUse { path: path.to_owned(), holder: holder(&mut lock) });
            }
            Err(error) => return Err(failed(error.into())),
        }
        // The lock counts, whether or not the disk has room for the pid.
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(Self { _lock: lock, id })
    }
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    // A pid has at most ten digits.
    let read = lock.take(16).read_to_string(&mut text);
    let pid = read.ok().and_then(|_| text.trim().parse::<u32>().ok());
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_directory_belongs_to_one_daemon_until_that_ends() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        let first = StateDirectory::take(&path).unwrap();
        let refused = StateDirectory::take(&path).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("another hostprobe (pid {}) keeps", std::process::id())),
            "{refused}"
        );
        assert_eq!(fs::metadata(path.join(LOCK)).unwrap().permissions().mode() & 0o7777, 0o600);
        drop(first);
        StateDirectory::take(&path).unwrap();
    }

    #[test]
    fn a_directory_of_others_is_refused_with_its_reason() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = StateDirectory::take(root.path()).unwrap_err().to_string();
        assert!(refused.contains("cannot record to this folder: others may write to it"), "{refused}");
    }
}
