//! The zombie of a process that its parent has not reaped yet.

use rustix::thread::{CapabilitySet, capabilities};

use super::{ProcReader, cgroup::Hierarchy, process::status_field, read_text};
use crate::fact::ProcessKey;

/// `status` is one or two kilobytes long.
const STATUS_MAX: u64 = 64 * 1024;

/// A process that has ended or is about to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    pub key: ProcessKey,
    pub parent_pid: u32,
    pub name: String,
    /// Its real user id.
    pub user_id: u32,
    /// Id of its group in the v2 hierarchy.
    pub cgroup_v2: Option<u64>,
    /// Its wait status; None before its end, and if the kernel hides it from us.
    pub status: Option<u32>,
}

impl ProcReader {
    /// The zombie of a process; None if there is none.
    pub fn remains(&self, pid: u32) -> Option<Remains> {
        let stat = self.stat(pid)?;
        let status = read_text(&self.folder(pid).join("status"), STATUS_MAX).ok()?;
        let user_id = status_field(&status, "Uid").next().unwrap_or_default();
        let ended = matches!(stat.state, 'Z' | 'X');
        // The kernel shows 0 to a reader that may not trace the process (`fs/proc/array.c`).
        let visible = stat.exit_code.is_some_and(|code| code != 0) || may_trace(user_id);
        let status = stat.exit_code.filter(|_| ended && visible).map(i32::cast_unsigned);
        let path = self.cgroups().of(pid).v2;
        Some(Remains {
            key: self.key(pid, &stat),
            parent_pid: u32::try_from(stat.ppid).unwrap_or_default(),
            name: stat.comm,
            user_id,
            cgroup_v2: path.and_then(|path| self.cgroups().id(Hierarchy::V2, &path)),
            status,
        })
    }
}

/// Whether the daemon may trace a user's processes.
fn may_trace(user_id: u32) -> bool {
    rustix::process::geteuid().as_raw() == user_id && user_id != 0
        || capabilities(None).is_ok_and(|own| own.effective.contains(CapabilitySet::SYS_PTRACE))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use crate::host::ProcReader;

    #[test]
    fn a_zombie_has_its_status_and_a_living_process_none() {
        let reader = ProcReader::new("/").unwrap();
        let mut child = Command::new("/bin/sh").args(["-c", "exit 7"]).spawn().unwrap();
        let ended = rustix::process::waitid(
            rustix::process::WaitId::Pid(rustix::process::Pid::from_child(&child)),
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        );
        assert!(ended.unwrap().is_some());
        let remains = reader.remains(child.id()).unwrap();
        assert_eq!((remains.parent_pid, remains.name.as_str()), (std::process::id(), "sh"));
        assert_eq!(remains.status, Some(0x0700));
        child.wait().unwrap();
        assert_eq!(reader.remains(child.id()), None);
        assert_eq!(reader.remains(std::process::id()).unwrap().status, None);
    }
}
