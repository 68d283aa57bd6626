//! Memory cgroups: what each holds, which limit holds for a process, and how long its tasks waited for memory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Cgroups, ProcReader, cgroup::Hierarchy, read_text};
use crate::fact::{MemoryLimit, ProcessKey};

/// The deepest cgroup that is looked at, and the most of a hierarchy.
const DEPTH_MAX: usize = 8;
const GROUPS_MAX: usize = 1024;

/// The most processes that are looked at.
const PROCESSES_MAX: usize = 32_768;

/// A process and its resident memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resident {
    pub key: ProcessKey,
    pub name: String,
    pub bytes: u64,
}

impl ProcReader {
    /// The resident memory of all processes. It reads nothing from a process's memory.
    pub fn residents(&self) -> Vec<Resident> {
        let pids = self.pids().unwrap_or_default();
        pids.into_iter().take(PROCESSES_MAX).filter_map(|pid| self.resident(pid)).collect()
    }

    /// The resident memory of one process; None if it has ended or is a thread of the kernel.
    pub fn resident(&self, pid: u32) -> Option<Resident> {
        let stat = self.stat(pid)?;
        let bytes = stat.rss.saturating_mul(self.page_bytes());
        (bytes > 0).then(|| Resident { key: self.key(pid, &stat), name: stat.comm, bytes })
    }

    /// How long tasks of a memory cgroup, or of the host without one, have waited for memory, in words; None without PSI.
    pub fn memory_pressure(&self, group: Option<&str>) -> Option<String> {
        let own = group.and_then(|path| self.cgroups().folder(Hierarchy::V2, path));
        let of_group = own.and_then(|folder| read_text(&folder.join("memory.pressure"), 4096).ok());
        let (whose, text) = match of_group {
            Some(text) => ("its tasks", text),
            None => ("the host's tasks", read_text(&self.pressure_folder().join("memory"), 4096).ok()?),
        };
        let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
        let of = |name: &str| some.split(' ').find_map(|field| field.strip_prefix(name)?.parse::<f64>().ok());
        let (ten, sixty) = (of("avg10=")?, of("avg60=")?);
        Some(format!(
            "{whose} waited for memory {ten:.0} % of the last 10 s and {sixty:.0} % of the last minute (PSI)"
        ))
    }
}

impl Cgroups {
    /// The hierarchy of the memory controller.
    pub fn memory_hierarchy(&self) -> Hierarchy {
        if self.has(Hierarchy::Memory) { Hierarchy::Memory } else { Hierarchy::V2 }
    }

    /// The memory cgroup of a process, as a path.
    pub fn memory_path_of(&self, pid: u32) -> Option<String> {
        self.memory_group_of(pid).map(|(_, path)| path)
    }

    /// The bytes that a memory cgroup holds, with those below it.
    pub fn memory_held(&self, path: &str) -> Option<u64> {
        let folder = self.folder(self.memory_hierarchy(), path)?;
        held_in(&folder)
    }

    /// Every memory cgroup below the root that holds something, with its bytes.
    pub fn memory_groups(&self) -> Vec<(String, u64)> {
        let Some(root) = self.folder(self.memory_hierarchy(), "/") else { return Vec::new() };
        let mut found = Vec::new();
        let mut left = vec![(root, String::new(), 0)];
        let mut seen = 0;
        while let Some((folder, path, depth)) = left.pop() {
            for (name, below) in folders_in(&folder) {
                seen += 1;
                if seen > GROUPS_MAX {
                    return found;
                }
                let path = format!("{path}/{name}");
                let Some(bytes) = held_in(&below).filter(|bytes| *bytes > 0) else { continue };
                found.push((path.clone(), bytes));
                if depth < DEPTH_MAX {
                    left.push((below, path, depth + 1));
                }
            }
        }
        found
    }

    /// The lowest limit at or above a memory cgroup, with the cgroup that has it.
    pub fn lowest_memory_limit(&self, path: &str) -> Option<MemoryLimit> {
        let hierarchy = self.memory_hierarchy();
        let groups = Path::new(path).ancestors().filter_map(Path::to_str);
        let limits =
            groups.filter_map(|group| Some((group.to_owned(), self.memory_limit(hierarchy, group)?)));
        let (group, bytes) = limits.min_by_key(|(_, bytes)| *bytes)?;
        Some(self.limit_of(Some(group), bytes))
    }

    /// The limit of a memory cgroup, or that of the host.
    pub fn limit_of(&self, cgroup: Option<String>, bytes: u64) -> MemoryLimit {
        let file = match self.memory_hierarchy() {
            Hierarchy::Memory | Hierarchy::Systemd => "memory.limit_in_bytes",
            Hierarchy::V2 => "memory.max",
        };
        MemoryLimit { cgroup, file: file.to_owned(), bytes }
    }
}

fn held_in(folder: &Path) -> Option<u64> {
    let read = |name: &str| read_text(&folder.join(name), 64).ok()?.trim().parse().ok();
    read("memory.current").or_else(|| read("memory.usage_in_bytes"))
}

fn folders_in(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().map_while(Result::ok);
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect()
}

#[cfg(test)]
mod tests {
    use crate::host::fake::FakeHost;

    #[test]
    fn the_lowest_limit_above_a_process_is_the_one_it_reaches() {
        let host = FakeHost::v2();
        host.write("sys/fs/cgroup/a/memory.max", b"1048576\n");
        host.write("sys/fs/cgroup/a/b/memory.max", b"4194304\n");
        host.write("sys/fs/cgroup/a/b/c/memory.max", b"max\n");
        let limit = host.cgroups().lowest_memory_limit("/a/b/c").unwrap();
        assert_eq!(
            (limit.cgroup.as_deref(), limit.file.as_str(), limit.bytes),
            (Some("/a"), "memory.max", 1 << 20)
        );
        assert_eq!(host.cgroups().lowest_memory_limit("/other"), None);
        let hybrid = FakeHost::hybrid();
        hybrid.write("sys/fs/cgroup/memory/m/memory.limit_in_bytes", b"4096\n");
        assert_eq!(hybrid.cgroups().lowest_memory_limit("/m").unwrap().file, "memory.limit_in_bytes");
    }

    #[test]
    fn cgroups_that_hold_something_are_listed_with_those_below() {
        let host = FakeHost::v2();
        host.write("sys/fs/cgroup/a/memory.current", b"300\n");
        host.write("sys/fs/cgroup/a/b/memory.current", b"200\n");
        host.write("sys/fs/cgroup/empty/memory.current", b"0\n");
        host.write("sys/fs/cgroup/odd/memory.current", b"garbage\n");
        let mut groups = host.cgroups().memory_groups();
        groups.sort();
        assert_eq!(groups, [("/a".to_owned(), 300), ("/a/b".to_owned(), 200)]);
        assert_eq!(host.cgroups().memory_held("/a/b"), Some(200));
    }

    #[test]
    fn the_pressure_is_that_of_the_group_and_else_of_the_host() {
        let host = FakeHost::v2();
        let line =
            |share: u32| format!("some avg10={share}.40 avg60=7.00 avg300=0.00 total=9\nfull avg10=0.00\n");
        host.write("proc/pressure/memory", line(3).as_bytes());
        host.write("sys/fs/cgroup/a/memory.pressure", line(63).as_bytes());
        let reader = host.reader();
        let own = reader.memory_pressure(Some("/a")).unwrap();
        assert!(own.starts_with("its tasks waited for memory 63 % of the last 10 s and 7 %"), "{own}");
        assert!(
            reader.memory_pressure(Some("/b")).unwrap().starts_with("the host's tasks waited for memory 3 %")
        );
    }
}
