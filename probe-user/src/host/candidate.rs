//! A process that a matcher may mean.

use std::{path::Path, sync::OnceLock};

use super::{
    ProcReader, cgroup,
    process::{executable, status_field},
    read_record,
};
use crate::fact::ProcessKey;

/// `status` is one or two kilobytes long.
const STATUS_MAX: u64 = 64 * 1024;

/// What the matcher has read of a process. Nothing comes from the process's memory, which a hanging process may have
/// locked.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) key: ProcessKey,
    pub(super) parent: u32,
    executable: OnceLock<Option<String>>,
    groups: OnceLock<cgroup::Groups>,
}

impl Candidate {
    pub(super) fn read(reader: &ProcReader, pid: u32) -> Option<Self> {
        let (key, parent) = reader.descent(pid)?;
        Some(Self { key, parent, executable: OnceLock::new(), groups: OnceLock::new() })
    }

    pub(super) fn executes(&self, exe: &Path, reader: &ProcReader) -> bool {
        let executable = self.executable.get_or_init(|| executable(&reader.folder(self.key.pid).join("exe")));
        executable.as_ref().is_some_and(|executable| Path::new(executable) == exe)
    }

    /// Its pid in its own pid namespace, if that is not the daemon's.
    pub(super) fn namespaced_pid(&self, reader: &ProcReader) -> Option<u32> {
        let status = read_record(&reader.folder(self.key.pid).join("status"), STATUS_MAX).ok()?;
        status_field(&String::from_utf8_lossy(&status), "NSpid").skip(1).last()
    }

    /// Whether it is in the cgroup with this path or in one below it, in any hierarchy.
    pub(super) fn is_in(&self, cgroup: &str, reader: &ProcReader) -> bool {
        self.groups(reader).paths().any(|path| Path::new(path).starts_with(cgroup))
    }

    pub(super) fn is_in_container(&self, id: &str, reader: &ProcReader) -> bool {
        let container = self.groups(reader).paths().find_map(cgroup::container_id);
        container.is_some_and(|container| match cgroup::is_hexadecimal_id(&container) {
            true => container.starts_with(id),
            // The beginning of a name may be another one's name.
            false => container == id,
        })
    }

    fn groups(&self, reader: &ProcReader) -> &cgroup::Groups {
        self.groups.get_or_init(|| reader.cgroups().of(self.key.pid))
    }
}
