//! All processes of the host at once, as the daemon's start needs them.

use std::{collections::HashMap, num::NonZero, thread};

use super::{
    ProcReader, ReadError,
    cgroup::{Groups, Hierarchy},
};
use crate::fact::Process;

/// Another thread pays off with this number of further processes.
const PER_THREAD: usize = 100;

/// The most threads, so that the host's CPUs stay free for its services.
const THREADS_MAX: usize = 4;

impl ProcReader {
    /// All processes and their cgroups, zombies included.
    pub fn scan(&self) -> Result<Vec<(Process, Groups)>, ReadError> {
        let pids = self.pids()?;
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = processors.min(THREADS_MAX).min(pids.len() / PER_THREAD).max(1);
        if threads == 1 {
            return Ok(self.scan_part(&pids));
        }
        let parts: Vec<&[u32]> = pids.chunks(pids.len().div_ceil(threads)).collect();
        Ok(thread::scope(|scope| {
            let start = |part| {
                let thread = thread::Builder::new().name("scan".to_owned());
                thread.spawn_scoped(scope, move || self.scan_part(part))
            };
            let started: Vec<_> = parts.iter().map(|part| start(*part)).collect();
            let read = parts.iter().zip(started).flat_map(|(part, thread)| {
                let read = thread.ok().and_then(|thread| thread.join().ok());
                // Without another thread the scan takes longer.
                read.unwrap_or_else(|| self.scan_part(part))
            });
            read.collect()
        }))
    }

    fn scan_part(&self, pids: &[u32]) -> Vec<(Process, Groups)> {
        // Many processes are in few groups.
        let mut known: HashMap<(Hierarchy, String), _> = HashMap::new();
        let mut group = |hierarchy: Hierarchy, path: &str| {
            let group = known.entry((hierarchy, path.to_owned()));
            group.or_insert_with(|| self.cgroups().group(hierarchy, path)).clone()
        };
        pids.iter().filter_map(|&pid| self.read_with(pid, &mut group)).collect()
    }
}

#[cfg(test)]
mod tests {
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
        let mut found = reader.scan().unwrap();
        found.sort_by_key(|(process, _)| process.key.pid);
        assert_eq!(found.len(), 450);
        for (pid, (process, groups)) in (1..).zip(found) {
            assert_eq!(Some(&process), reader.read(pid).as_ref());
            assert_eq!(process.cgroup.unwrap().id, ids[pid as usize % 7]);
            assert_eq!(groups, reader.cgroups().of(pid));
        }
    }
}
