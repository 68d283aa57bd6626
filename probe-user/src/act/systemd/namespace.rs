//! Translates the pids of systemd's pid namespace.
//!
//! systemd reports pids of its own namespace. On a host that is the initial namespace. The pids of a systemd in a
//! container need a translation.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{clock::Timestamp, fact::ProcessKey};

/// `/proc` counts process start times in ticks of 10 ms (`USER_HZ`, 100 on every supported architecture).
pub(super) const TICK_NANOS: u64 = 10_000_000;

/// The systemd manager's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manager {
    /// Its pid in the daemon's namespace.
    pub(super) pid: u32,
    /// The number of pid namespaces between the daemon's and systemd's; 0 if they share one.
    depth: usize,
    proc: PathBuf,
}

impl Manager {
    /// The manager behind a bus. `peer` made the bus's socket (a pid of the daemon's namespace, None if unknown).
    /// An error means that its processes cannot be seen from here.
    pub(super) fn behind(peer: Option<u32>, proc: &Path) -> io::Result<Self> {
        let same = Self { pid: 1, depth: 0, proc: proc.to_owned() };
        let peer = match peer {
            // The first process of this namespace made it, or its maker is unknown. Then no other namespace
            // matters.
            None | Some(1) => return Ok(same),
            // The kernel reports 0 for a process outside this namespace and those below it.
            Some(0) => return Err(io::Error::from(io::ErrorKind::NotFound)),
            Some(peer) => peer,
        };
        let namespace = |pid: &str| fs::read_link(proc.join(pid).join("ns/pid"));
        // The pid of a bus daemon that was replaced since belongs to no process.
        let Ok(theirs) = namespace(&peer.to_string()) else { return Ok(same) };
        if namespace("self").is_ok_and(|own| own == theirs) {
            return Ok(same);
        }
        let first = |pid: u32| {
            let numbers = namespace_pids(proc, pid)?;
            (numbers.last() == Some(&1)).then(|| Self {
                pid,
                depth: numbers.len().saturating_sub(1),
                proc: proc.to_owned(),
            })
        };
        if let Some(manager) = first(peer) {
            return Ok(manager);
        }
        for entry in fs::read_dir(proc)? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if let Some(manager) = first(pid)
                && namespace(&pid.to_string()).is_ok_and(|its| its == theirs)
            {
                return Ok(manager);
            }
        }
        Err(io::Error::from(io::ErrorKind::NotFound))
    }

    /// The process that the manager calls `pid`, if it still exists; a zombie does. `members` are pids of the
    /// daemon's namespace to search first.
    pub(super) fn process(&self, pid: u32, members: impl FnOnce() -> Vec<u32>) -> Option<ProcessKey> {
        let here = match self.depth {
            0 => Some(pid),
            _ => members().into_iter().find(|&member| self.is(member, pid)).or_else(|| {
                // A zombie is no longer listed in its cgroup, but is still a child of the manager.
                self.children().into_iter().find(|&child| self.is(child, pid))
            }),
        }?;
        Some(ProcessKey { pid: here, start: start_time(&self.proc, here)? })
    }

    fn is(&self, here: u32, there: u32) -> bool {
        namespace_pids(&self.proc, here).is_some_and(|pids| pids.get(self.depth) == Some(&there))
    }

    fn children(&self) -> Vec<u32> {
        let path = self.proc.join(format!("{0}/task/{0}/children", self.pid));
        fs::read_to_string(path)
            .map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
            .unwrap_or_default()
    }
}

/// A process's pid in each of its namespaces, from the daemon's inwards.
fn namespace_pids(proc: &Path, pid: u32) -> Option<Vec<u32>> {
    let status = fs::read_to_string(proc.join(pid.to_string()).join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().map(|number| number.parse().ok()).collect()
}

/// A process's start time, in ticks.
fn start_time(proc: &Path, pid: u32) -> Option<Timestamp> {
    let stat = fs::read_to_string(proc.join(pid.to_string()).join("stat")).ok()?;
    // The name may contain parentheses. Field 3 follows the last one.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().nth(22 - 3)?.parse().ok()?;
    Some(Timestamp::from_proc_nanos(ticks.saturating_mul(TICK_NANOS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `/proc` with the test itself, a container's bus daemon (200), its init (100), and a service (300).
    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (pid, namespace, pids) in [
            ("self", "pid:[1]", "50"),
            ("50", "pid:[1]", "50"),
            ("200", "pid:[2]", "200\t17"),
            ("100", "pid:[2]", "100\t1"),
            ("101", "pid:[3]", "101\t1"),
            ("300", "pid:[2]", "300\t42"),
            ("301", "pid:[4]", "301\t43\t42"),
        ] {
            let folder = root.path().join(pid);
            fs::create_dir_all(folder.join("ns")).unwrap();
            std::os::unix::fs::symlink(namespace, folder.join("ns/pid")).unwrap();
            fs::write(folder.join("status"), format!("Name:\tx\nNSpid:\t{pids}\nThreads:\t1\n")).unwrap();
            fs::write(folder.join("stat"), format!("{pid} (a) b) S {}123 0", "0 ".repeat(18))).unwrap();
        }
        fs::create_dir_all(root.path().join("100/task/100")).unwrap();
        fs::write(root.path().join("100/task/100/children"), "200 300 ").unwrap();
        root
    }

    #[test]
    fn pids_of_the_host_are_not_translated() {
        let root = tree();
        for peer in [None, Some(1), Some(50), Some(9999)] {
            let manager = Manager::behind(peer, root.path()).unwrap();
            assert_eq!(manager.pid, 1);
            let process = manager.process(300, || unreachable!("nothing to look up")).unwrap();
            assert_eq!(process, ProcessKey { pid: 300, start: Timestamp::from_nanos(1_230_000_000) });
        }
    }

    #[test]
    fn pids_of_a_container_are_translated() {
        let root = tree();
        for peer in [100, 200] {
            let manager = Manager::behind(Some(peer), root.path()).unwrap();
            assert_eq!(manager.pid, 100);
            let pid = |there, members: Vec<u32>| manager.process(there, || members).map(|found| found.pid);
            assert_eq!(pid(42, vec![200, 300]), Some(300));
            assert_eq!(pid(42, vec![]), Some(300), "a zombie is found among the manager's children");
            assert_eq!(pid(43, vec![301]), Some(301), "a pid of a deeper namespace does not match");
            assert_eq!(pid(7, vec![200, 300]), None);
        }
    }

    #[test]
    fn a_manager_in_an_invisible_namespace_is_an_error() {
        assert!(Manager::behind(Some(0), tree().path()).is_err());
    }
}
