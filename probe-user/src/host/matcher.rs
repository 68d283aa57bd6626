//! Finds the main process of a service that something else started.

use std::{collections::HashSet, fs, path::Path};

use super::ProcReader;
use crate::{
    config::Matcher,
    fact::{Process, ProcessKey},
};

impl ProcReader {
    /// The main process that a matcher means: of all processes for which every part holds, the oldest whose
    /// parent is not one of them. None if there is none.
    ///
    /// It looks through all processes, and with a port through all their descriptors: milliseconds on a small
    /// host, much more on a large one.
    pub fn find_main(&self, matcher: &Matcher) -> Option<ProcessKey> {
        let by_port = matcher.port.map(|port| self.listening_on(port));
        let by_pidfile = matcher.pidfile.as_deref().map(pid_in);
        let candidates = match (&by_port, &by_pidfile) {
            (Some(pids), _) => self.read_all(pids.iter().copied()),
            (None, Some(pid)) => self.read_all(pid.iter().copied()),
            (None, None) => self.scan().unwrap_or_default(),
        };
        let holds = |process: &Process| {
            by_pidfile.is_none_or(|pid| pid == Some(process.key.pid))
                && matcher.exe.as_ref().is_none_or(|exe| executes(process, exe))
                && matcher.cgroup.as_ref().is_none_or(|cgroup| self.is_in(process, cgroup))
                && matcher.container.as_ref().is_none_or(|id| is_in_container(process, id))
        };
        let found: Vec<Process> = candidates.into_iter().filter(holds).collect();
        let pids: HashSet<u32> = found.iter().map(|process| process.key.pid).collect();
        let topmost = found.iter().filter(|process| !pids.contains(&process.parent_pid));
        topmost.map(|process| process.key).min_by_key(|key| (key.start, key.pid))
    }

    fn listening_on(&self, port: u16) -> HashSet<u32> {
        let sockets = self.listeners().unwrap_or_default();
        sockets.into_iter().filter(|socket| socket.port == port).map(|socket| socket.pid).collect()
    }

    fn read_all(&self, pids: impl Iterator<Item = u32>) -> Vec<Process> {
        pids.filter_map(|pid| self.read(pid)).collect()
    }

    /// Whether a process is in the cgroup with this path or in one below it, in any hierarchy.
    fn is_in(&self, process: &Process, cgroup: &str) -> bool {
        let groups = self.cgroups().of(process.key.pid);
        groups.paths().any(|path| Path::new(path).starts_with(cgroup))
    }
}

fn pid_in(pidfile: &Path) -> Option<u32> {
    fs::read_to_string(pidfile).ok()?.trim().parse().ok()
}

fn executes(process: &Process, exe: &Path) -> bool {
    process.executable.as_ref().is_some_and(|executable| Path::new(executable) == exe)
}

fn is_in_container(process: &Process, id: &str) -> bool {
    process.container_id.as_ref().is_some_and(|container| container.starts_with(id))
}
