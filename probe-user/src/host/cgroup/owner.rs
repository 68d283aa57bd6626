//! The daemon that a cgroup or a process under `exec` belongs to.
//!
//! Its name is that of the folder of its cgroups. A daemon that adopts the cgroup of an ended one writes its own name
//! to an extended attribute of the cgroup, which then counts instead.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use rustix::{
    fs::{XattrFlags, getxattr, removexattr, setxattr},
    process::geteuid,
};

use super::Cgroups;
use crate::{
    clock::Timestamp,
    fact::{INITIAL_PID_NAMESPACE, ProcessKey},
    host::{FileId, place},
};

/// The prefix of a name.
pub(super) const PREFIX: &str = "hostprobe-";

/// Cgroups take attributes of this kind since Linux 5.7 (`kernfs_vfs_user_xattr_set`).
const ATTRIBUTE: &str = "user.hostprobe.owner";

/// What runs in the cgroup.
const COMMAND: &str = "user.hostprobe.command";

/// A longer attribute is not a daemon's.
const NAME_MAX: usize = 256;
const COMMAND_MAX: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub daemon: ProcessKey,
    /// The state directory of a daemon that leaves its services running on purpose: the next daemon with that directory
    /// takes them over, and no other one may end them.
    pub state: Option<FileId>,
}

impl Owner {
    /// Whether what belongs to this owner is to be ended by a daemon with the state directory `own`.
    pub fn has_abandoned(&self, own: Option<FileId>, lives: impl Fn(ProcessKey) -> bool) -> bool {
        !lives(self.daemon) && self.state.is_none_or(|state| Some(state) == own)
    }
}

impl Cgroups {
    /// The name of a daemon, for its folder.
    pub(super) fn daemon_name(&self, daemon: ProcessKey) -> String {
        format!("{PREFIX}{}{}-{}", self.namespace(), daemon.pid, daemon.start.as_nanos())
    }

    pub(crate) fn owner_name(&self, owner: Owner) -> String {
        let daemon = self.daemon_name(owner.daemon);
        owner.state.map_or_else(|| daemon.clone(), |state| format!("{daemon}@{state}"))
    }

    /// The owner with this [`Cgroups::owner_name`]. Whether a daemon in another pid namespace lives is unknown here, so its
    /// names are no daemon's.
    pub(crate) fn owner_named(&self, name: &str) -> Option<Owner> {
        let name = name.strip_prefix(PREFIX)?.strip_prefix(&self.namespace())?;
        let (daemon, state) = match name.split_once('@') {
            Some((daemon, state)) => (daemon, Some(FileId::read(state)?)),
            None => (name, None),
        };
        let (pid, start) = daemon.split_once('-')?;
        let daemon = ProcessKey { pid: pid.parse().ok()?, start: Timestamp::from_nanos(start.parse().ok()?) };
        Some(Owner { daemon, state })
    }

    /// The pid namespace as a part of a name; empty for the initial one.
    fn namespace(&self) -> String {
        let inode = place::namespace(&self.proc, "pid").filter(|inode| *inode != INITIAL_PID_NAMESPACE);
        inode.map(|inode| format!("ns{inode}-")).unwrap_or_default()
    }

    /// Writes to a service's cgroup, which is this folder, that it belongs to this owner, whatever its path says.
    pub fn set_owner(&self, cgroup: &Path, owner: Owner) -> io::Result<()> {
        let name = self.owner_name(owner);
        Ok(setxattr(cgroup, ATTRIBUTE, name.as_bytes(), XattrFlags::empty())?)
    }

    /// Writes to the cgroup with this folder what runs in it, for the next daemon with this state directory. The memory of the
    /// kernel has it at once, whatever the disk does.
    pub fn set_command(&self, cgroup: &Path, state: FileId, command: &str) -> io::Result<()> {
        let text = format!("{state}\n{command}");
        Ok(setxattr(cgroup, COMMAND, text.as_bytes(), XattrFlags::empty())?)
    }

    /// What ran there has ended, and a daemon has seen that.
    pub fn remove_command(&self, cgroup: &Path) {
        // It may have none, or be gone.
        let _ = removexattr(cgroup, COMMAND);
    }

    /// What a daemon with this state directory has written so. None if another user could have.
    pub fn command_in(&self, cgroup: &Path, state: FileId) -> Option<String> {
        let folder = fs::metadata(cgroup).ok()?;
        let is_ours = folder.uid() == 0 || folder.uid() == geteuid().as_raw();
        if !is_ours || folder.mode() & 0o022 != 0 {
            return None;
        }
        let mut text = vec![0; COMMAND_MAX];
        let length = getxattr(cgroup, COMMAND, &mut text).ok()?;
        let (of, command) = str::from_utf8(text.get(..length)?).ok()?.split_once('\n')?;
        (FileId::read(of)? == state).then(|| command.to_owned())
    }

    /// The owner of the service's cgroup with this folder; None if it is no daemon's of this pid namespace.
    pub(super) fn owner_of(&self, cgroup: &Path) -> Option<Owner> {
        let mut name = [0; NAME_MAX];
        match getxattr(cgroup, ATTRIBUTE, &mut name) {
            Ok(length) => self.owner_named(str::from_utf8(name.get(..length)?).ok()?),
            Err(_) => self.owner_named(cgroup.parent()?.file_name()?.to_str()?),
        }
    }
}
