//! OOM kills by the kernel's counters: how many there were in a process's memory cgroup.
//!
//! A counter says that there was a kill, not whose. It is compared with its value at the last read, so that an old kill
//! does not explain a much later exit.

use std::{collections::HashMap, fs, path::PathBuf, time::Duration};

use crate::{
    clock::Timestamp,
    host::{ProcReader, cgroup::Hierarchy},
};

/// A kill explains an exit that comes no later than this.
const EXPLAINS: Duration = Duration::from_secs(10);

/// The counters of the processes that matter.
#[derive(Debug)]
pub struct OomCounts {
    reader: ProcReader,
    counts: HashMap<u32, Count>,
}

#[derive(Debug)]
struct Count {
    file: PathBuf,
    kills: u64,
    /// Those of the whole host.
    of_host: u64,
    /// When it was last found to have risen.
    risen: Option<Timestamp>,
}

impl OomCounts {
    pub fn new(reader: ProcReader) -> Self {
        Self { reader, counts: HashMap::new() }
    }

    /// Reads the counter of a living process.
    pub fn note(&mut self, pid: u32) {
        self.note_all(std::iter::once(pid));
    }

    /// The same of several.
    pub fn note_all(&mut self, pids: impl Iterator<Item = u32>) {
        let mut pids = pids.peekable();
        if pids.peek().is_none() {
            return;
        }
        let of_host = kills(&self.reader.vmstat()).unwrap_or_default();
        for pid in pids {
            let before = self.counts.get(&pid);
            // The kill is counted before its victim has ended, which may take long.
            let risen = before.filter(|before| kills(&before.file).is_some_and(|now| now > before.kills));
            let risen = risen.map(|_| Timestamp::now()).or(before.and_then(|before| before.risen));
            let found = self.reader.oom_counter(pid);
            let found = found.and_then(|file| Some(Count { kills: kills(&file)?, file, of_host, risen }));
            // A process that is gone or dying shows no cgroup: its last counter still holds.
            if let Some(count) = found {
                self.counts.insert(pid, count);
            }
        }
    }

    pub fn forget(&mut self, pid: u32) {
        self.counts.remove(&pid);
    }

    /// Whether there was a kill in a process's cgroup since its counter was last read. Where the process may have left
    /// that cgroup, whether there was any kill on the host.
    pub fn has_risen(&self, pid: u32) -> bool {
        let Some(count) = self.counts.get(&pid) else { return false };
        let above = |file: &PathBuf, before: u64| kills(file).is_some_and(|now| now > before);
        count.risen.is_some_and(|risen| Timestamp::now().since(risen) < EXPLAINS)
            || above(&count.file, count.kills)
            || self.reader.oom_counter(pid).as_ref() != Some(&count.file)
                && above(&self.reader.vmstat(), count.of_host)
    }
}

impl ProcReader {
    /// The file that counts the OOM kills in a process's memory cgroup: `memory.events` of v2, `memory.oom_control`
    /// of v1; for one in a hierarchy's root, which counts none, the host's own `vmstat`.
    fn oom_counter(&self, pid: u32) -> Option<PathBuf> {
        let groups = self.cgroups().of(pid);
        let v1 = groups.memory.as_deref().map(|path| (Hierarchy::Memory, path, "memory.oom_control"));
        let v2 = groups.v2.as_deref().map(|path| (Hierarchy::V2, path, "memory.events"));
        let file = |(hierarchy, path, name): (Hierarchy, &str, &str)| {
            Some(self.cgroups().folder(hierarchy, path)?.join(name)).filter(|file| kills(file).is_some())
        };
        let known = groups.v2.is_some() || groups.memory.is_some();
        v1.and_then(file).or_else(|| v2.and_then(file)).or_else(|| known.then(|| self.vmstat()))
    }
}

/// The line `oom_kill N`, which all three files have (since Linux 4.13).
fn kills(file: &PathBuf) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn a_kill_since_the_last_read_counts_and_an_old_one_does_not() {
        for (host, group, file) in [
            (FakeHost::v2(), "0::/a\n", "sys/fs/cgroup/a/memory.events"),
            (FakeHost::hybrid(), "4:memory:/a\n0::/\n", "sys/fs/cgroup/memory/a/memory.oom_control"),
            (FakeHost::v2(), "0::/\n", "proc/vmstat"),
        ] {
            host.cgroup_file(7, group);
            host.write(file, b"low 0\noom 4\noom_kill 3\noom_group_kill 0\n");
            let mut counts = OomCounts::new(host.reader());
            assert!(!counts.has_risen(7), "it was never noted");
            counts.note(7);
            assert!(!counts.has_risen(7));
            host.write(file, b"oom 5\noom_kill 4\n");
            assert!(counts.has_risen(7));
            host.cgroup_file(7, "");
            counts.note(7);
            assert!(counts.has_risen(7), "a dying process has no cgroup any more");
            host.write(file, b"nonsense");
            assert!(!counts.has_risen(7));
            counts.forget(7);
            assert!(counts.counts.is_empty());
        }
    }

    #[test]
    fn a_kill_elsewhere_counts_only_for_a_process_that_has_moved() {
        let host = FakeHost::v2();
        for group in ["a", "b"] {
            host.write(&format!("sys/fs/cgroup/{group}/memory.events"), b"oom_kill 0\n");
        }
        host.write("proc/vmstat", b"oom_kill 5\n");
        host.cgroup_file(7, "0::/a\n");
        let mut counts = OomCounts::new(host.reader());
        counts.note(7);
        host.write("proc/vmstat", b"oom_kill 6\n");
        assert!(!counts.has_risen(7), "its own cgroup has none");
        host.cgroup_file(7, "0::/b\n");
        assert!(counts.has_risen(7), "how the other cgroup stood is not known");
    }
}
