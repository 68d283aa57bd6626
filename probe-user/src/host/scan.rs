//! All processes of the host at once, as the daemon's start needs them.

use std::{
    collections::HashMap,
    num::NonZero,
    thread::{self, JoinHandle},
};

use super::{ProcReader, ReadError, cgroup::Hierarchy};
use crate::fact::{Cgroup, Process};

/// Another thread pays off with this number of further processes.
const PER_THREAD: usize = 100;

/// The most threads, so that the host's CPUs stay free for its services.
const THREADS_MAX: usize = 4;

/// All processes, zombies included, and the cgroups that they are in.
#[derive(Debug, Default)]
pub struct Scan {
    pub processes: Vec<Process>,
    /// Of the hierarchies whose ids the eBPF programs report. A group may be there more than once.
    pub groups: Vec<(Hierarchy, Cgroup)>,
}

impl ProcReader {
    pub fn scan(&self) -> Result<Scan, ReadError> {
        let mut scan = Scan::default();
        for part in in_parts(&self.pids()?, |part| self.scan_part(part)) {
            scan.processes.extend(part.processes);
            scan.groups.extend(part.groups);
        }
        Ok(scan)
    }

    fn scan_part(&self, pids: &[u32]) -> Scan {
        // Many processes are in few groups.
        let mut known: HashMap<(Hierarchy, String), Cgroup> = HashMap::new();
        let mut group = |hierarchy: Hierarchy, path: &str| {
            let group = known.entry((hierarchy, path.to_owned()));
            group.or_insert_with(|| self.cgroups().group(hierarchy, path)).clone()
        };
        let mut processes = Vec::with_capacity(pids.len());
        for &pid in pids {
            let Some((process, groups)) = self.read_with(pid, &mut group) else { continue };
            processes.push(process);
            for (hierarchy, path) in [(Hierarchy::V2, &groups.v2), (Hierarchy::Memory, &groups.memory)] {
                path.iter().for_each(|path| _ = group(hierarchy, path));
            }
        }
        let groups = known.into_iter().map(|((hierarchy, _), group)| (hierarchy, group));
        Scan { processes, groups: groups.filter(|(_, group)| group.id != 0).collect() }
    }
}

/// A scan on a thread of its own.
pub struct Scanning {
    reader: ProcReader,
    /// None if the thread could not be started.
    thread: Option<JoinHandle<Result<Scan, ReadError>>>,
}

impl Scanning {
    pub fn start(reader: ProcReader) -> Self {
        let scanned = reader.clone();
        let thread = thread::Builder::new().name("scan".to_owned()).spawn(move || scanned.scan());
        Self { reader, thread: thread.ok() }
    }

    pub fn finish(self) -> Result<Scan, ReadError> {
        let scan = self.thread.and_then(|thread| thread.join().ok());
        scan.unwrap_or_else(|| self.reader.scan())
    }
}

/// What `read` makes of parts of these processes, which are read at once.
pub(super) fn in_parts<T: Send>(pids: &[u32], read: impl Fn(&[u32]) -> T + Sync) -> Vec<T> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = processors.min(THREADS_MAX).min(pids.len() / PER_THREAD).max(1);
    if threads == 1 {
        return vec![read(pids)];
    }
    let read = &read;
    let (first, others) = pids.split_at(pids.len().div_ceil(threads));
    let others: Vec<&[u32]> = others.chunks(first.len()).collect();
    thread::scope(|scope| {
        let start = |part| {
            let thread = thread::Builder::new().name("scan".to_owned());
            thread.spawn_scoped(scope, move || read(part))
        };
        let started: Vec<_> = others.iter().map(|part| start(*part)).collect();
        let mut all = vec![read(first)];
        all.extend(others.iter().zip(started).map(|(part, thread)| {
            let done = thread.ok().and_then(|thread| thread.join().ok());
            // Without another thread it takes longer.
            done.unwrap_or_else(|| read(part))
        }));
        all
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn many_processes_are_read_each_once_and_as_one_by_one() {
        let host = FakeHost::v2();
        for pid in 1..=450 {
            host.process(pid, 0, "app", "/app");
            host.cgroup_file(pid, &format!("0::/group-{}\n", pid % 7));
        }
        let ids: Vec<u64> =
            (0..7).map(|group| host.folder(&format!("sys/fs/cgroup/group-{group}"))).collect();
        let reader = host.reader();
        let Scan { mut processes, groups } = reader.scan().unwrap();
        processes.sort_by_key(|process| process.key.pid);
        assert_eq!(processes.len(), 450);
        for (pid, process) in (1..).zip(processes) {
            assert_eq!(Some(&process), reader.read(pid).as_ref());
            assert_eq!(process.cgroup.unwrap().id, ids[pid as usize % 7]);
        }
        let found: BTreeSet<u64> = groups.iter().map(|(_, group)| group.id).collect();
        assert_eq!(found, ids.into_iter().collect());
        assert!(
            groups.iter().all(|(hierarchy, group)| *group == reader.cgroups().group(*hierarchy, &group.path))
        );
    }

    #[test]
    fn the_groups_of_all_hierarchies_with_ids_are_found() {
        let host = FakeHost::hybrid();
        host.process(5, 0, "app", "/app");
        host.cgroup_file(5, "4:memory:/jobs\n1:name=systemd:/a.service\n0::/gone\n");
        let id = host.folder("sys/fs/cgroup/memory/jobs");
        let jobs = Cgroup { id, path: "/jobs".to_owned() };
        assert_eq!(host.reader().scan().unwrap().groups, [(Hierarchy::Memory, jobs)]);
    }
}
