//! What limits the memory, threads and descriptors of processes, and how much of that is used.
//!
//! Used memory is what the kernel cannot take back: of a cgroup's `memory.current`, all but the pages of files
//! (`active_file`, `inactive_file`) and the slabs that can be freed (`slab_reclaimable`). Page cache is not in it, and
//! shared memory is. Without a limit of a cgroup, it is the resident memory of the processes that no file backs, and the
//! limit is that plus the host's `MemAvailable`.

use std::path::{Path, PathBuf};

use super::{
    ProcReader,
    cgroup::{Cgroups, Hierarchy},
    process::status_field,
    read_record, read_text,
};

/// The files are smaller.
const TEXT_MAX: u64 = 64 * 1024;

/// `CAP_SYS_ADMIN` and `CAP_SYS_RESOURCE` (`linux/capability.h`): RLIMIT_NPROC does not hold for them.
const NO_PROCESS_LIMIT: u64 = 1 << 21 | 1 << 24;

/// A limit on processes is not near if all threads of the host, this many times, would not reach it.
const FEW: u64 = 20;

/// A limit, and what counts against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// Its name, such as `memory.max of /web.slice`.
    pub limit: String,
    pub used: u64,
    pub most: u64,
}

impl Ceiling {
    /// Percent in use; 100 of nothing.
    pub fn percent(&self) -> f64 {
        if self.most == 0 { 100.0 } else { self.used as f64 * 100.0 / self.most as f64 }
    }
}

impl ProcReader {
    /// The limits on the memory of a process: of its cgroups, else of the host. Only the latter asks for `anonymous`, which
    /// is what all processes of its service use together, in bytes.
    pub fn memory_ceilings(&self, pid: u32, anonymous: impl FnOnce() -> u64) -> Vec<Ceiling> {
        let mut found = Vec::new();
        for (path, folder) in self.cgroups().memory_folders_of(pid) {
            let limits = ["memory.max", "memory.high", "memory.limit_in_bytes"];
            let limits = limits.into_iter().filter_map(|name| Some((name, number_in(&folder.join(name))?)));
            let limits: Vec<(&str, u64)> = limits.filter(|(_, most)| *most < 1 << 60).collect();
            if limits.is_empty() {
                continue;
            }
            let Some(used) = unreclaimable(&folder) else { continue };
            let ceiling = |(name, most)| Ceiling { limit: format!("{name} of {path}"), used, most };
            found.extend(limits.into_iter().map(ceiling));
        }
        if found.is_empty()
            && let Some(available) = self.memory_available()
        {
            let used = anonymous();
            let most = used.saturating_add(available);
            found.push(Ceiling { limit: "memory of the host".to_owned(), used, most });
        }
        found
    }

    /// Resident memory of a process that no file backs, in bytes.
    pub fn anonymous_bytes(&self, pid: u32) -> u64 {
        let status = read_record(&self.folder(pid).join("status"), TEXT_MAX).unwrap_or_default();
        let status = String::from_utf8_lossy(&status);
        let kibibytes: u64 = ["RssAnon", "RssShmem"]
            .into_iter()
            .filter_map(|name| status_field(&status, name).next())
            .map(u64::from)
            .sum();
        kibibytes.saturating_mul(1024)
    }

    /// The limits on the threads of a process: of its cgroups, of its user, and of the host.
    pub fn thread_ceilings(&self, pid: u32) -> Vec<Ceiling> {
        let mut found = Vec::new();
        for (path, folder) in self.cgroups().unified_folders_of(pid) {
            let number = |name| number_in(&folder.join(name));
            if let (Some(used), Some(most)) = (number("pids.current"), number("pids.max")) {
                found.push(Ceiling { limit: format!("pids.max of {path}"), used, most });
            }
        }
        found.extend(self.user_ceiling(pid));
        let threads = self.host_threads();
        // A pid namespace may have a `pid_max` of its own, and the threads are the host's.
        let is_hosts = self.is_in_initial_pid_namespace() != Some(false);
        for name in ["threads-max", "pid_max"].into_iter().take(if is_hosts { 2 } else { 1 }) {
            let most = number_in(&self.proc().join("sys/kernel").join(name));
            if let (Some(used), Some(most)) = (threads, most) {
                found.push(Ceiling { limit: format!("kernel.{name}"), used, most });
            }
        }
        found
    }

    /// The limit on the descriptors of a process, and how many it has open.
    pub fn descriptor_ceiling(&self, pid: u32) -> Option<Ceiling> {
        let most = self.resource_limit(pid, "Max open files")?;
        Some(Ceiling { limit: "RLIMIT_NOFILE".to_owned(), used: self.open_files(pid)?, most })
    }

    /// RLIMIT_NPROC, if it holds for the process: the kernel counts the threads of its user.
    fn user_ceiling(&self, pid: u32) -> Option<Ceiling> {
        let status = read_record(&self.folder(pid).join("status"), TEXT_MAX).ok()?;
        let status = String::from_utf8_lossy(&status);
        let user = status_field(&status, "Uid").next()?;
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        let capabilities = u64::from_str_radix(line.trim(), 16).ok()?;
        if user == 0 || capabilities & NO_PROCESS_LIMIT != 0 {
            return None;
        }
        let most = self.resource_limit(pid, "Max processes")?;
        // To count a user's threads takes a look at all processes. It is not worth that while the host has few.
        if self.host_threads()?.saturating_mul(FEW) < most {
            return None;
        }
        let used = self.pids().ok()?.into_iter().map(|pid| self.threads_of_user(pid, user)).sum();
        Some(Ceiling { limit: format!("RLIMIT_NPROC of user {user}"), used, most })
    }

    fn threads_of_user(&self, pid: u32, user: u32) -> u64 {
        let status = read_record(&self.folder(pid).join("status"), TEXT_MAX).unwrap_or_default();
        let status = String::from_utf8_lossy(&status);
        let is_theirs = status_field(&status, "Uid").next() == Some(user);
        status_field(&status, "Threads").next().filter(|_| is_theirs).map_or(0, u64::from)
    }

    /// The soft limit of a process by its name in `/proc/PID/limits`; None if it is unlimited.
    fn resource_limit(&self, pid: u32, name: &str) -> Option<u64> {
        let limits = read_record(&self.folder(pid).join("limits"), TEXT_MAX).ok()?;
        let limits = String::from_utf8_lossy(&limits);
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    }

    fn host_threads(&self) -> Option<u64> {
        let text = read_text(&self.proc().join("loadavg"), TEXT_MAX).ok()?;
        // The fourth field is `running/all`.
        text.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
    }

    fn memory_available(&self) -> Option<u64> {
        let text = read_text(&self.proc().join("meminfo"), TEXT_MAX).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    }
}

impl Cgroups {
    /// The cgroup of the memory controller that a process is in, and those above it, each with its path.
    fn memory_folders_of(&self, pid: u32) -> Vec<(String, PathBuf)> {
        let group = self.memory_group_of(pid);
        group.map_or_else(Vec::new, |(hierarchy, path)| self.folders_up(hierarchy, &path))
    }

    /// The same of the unified hierarchy.
    fn unified_folders_of(&self, pid: u32) -> Vec<(String, PathBuf)> {
        let path = self.of(pid).v2;
        path.map_or_else(Vec::new, |path| self.folders_up(Hierarchy::V2, &path))
    }

    fn folders_up(&self, hierarchy: Hierarchy, path: &str) -> Vec<(String, PathBuf)> {
        let name = |path: &Path| Some(path.to_str()?.to_owned());
        let up = Path::new(path).ancestors().filter_map(|path| {
            let name = name(path)?;
            let folder = self.folder(hierarchy, &name)?;
            Some((name, folder))
        });
        up.collect()
    }
}

/// What the kernel cannot take back of a cgroup's memory, in bytes. The names are those of v2, then those of v1.
fn unreclaimable(folder: &Path) -> Option<u64> {
    let used = number_in(&folder.join("memory.current"))
        .or_else(|| number_in(&folder.join("memory.usage_in_bytes")))?;
    let stat = read_text(&folder.join("memory.stat"), TEXT_MAX).ok()?;
    let field = |name: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|number| number.trim().parse::<u64>().ok())
    };
    let is_v1 = field("total_active_file").is_some();
    let names: &[&str] = if is_v1 {
        &["total_active_file", "total_inactive_file"]
    } else {
        &["active_file", "inactive_file", "slab_reclaimable"]
    };
    let reclaimable: u64 = names.iter().filter_map(|name| field(name)).sum();
    Some(used.saturating_sub(reclaimable))
}

/// The number in a file; None if it is `max`, or is not there.
fn number_in(file: &Path) -> Option<u64> {
    read_text(file, 64).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn page_cache_does_not_count_against_a_memory_limit_of_any_cgroup_above() {
        let host = FakeHost::v2();
        host.cgroup_file(5, "0::/a/b\n");
        host.write("sys/fs/cgroup/a/memory.max", b"1000000\n");
        host.write("sys/fs/cgroup/a/memory.high", b"max\n");
        host.write("sys/fs/cgroup/a/memory.current", b"900000\n");
        let stat = "anon 1\nactive_file 200000\ninactive_file 300000\nslab_reclaimable 100000\n";
        host.write("sys/fs/cgroup/a/memory.stat", stat.as_bytes());
        host.write("sys/fs/cgroup/a/b/memory.max", b"max\n");
        let found = host.reader().memory_ceilings(5, || 7);
        let of_a = Ceiling { limit: "memory.max of /a".to_owned(), used: 300_000, most: 1_000_000 };
        assert_eq!(found, [of_a]);
        assert_eq!(found[0].percent(), 30.0);
    }

    #[test]
    fn without_a_limit_the_host_s_available_memory_is_left() {
        let host = FakeHost::v2();
        host.cgroup_file(5, "0::/a\n");
        host.write("proc/meminfo", b"MemTotal: 9000 kB\nMemAvailable:    1000 kB\n");
        host.write("proc/5/status", b"Name:\tx\nRssAnon:\t     300 kB\nRssFile:\t 50 kB\nRssShmem:\t 4 kB\n");
        let reader = host.reader();
        assert_eq!(reader.anonymous_bytes(5), 304 * 1024);
        let found = reader.memory_ceilings(5, || 24 * 1024);
        let of_host = Ceiling { limit: "memory of the host".to_owned(), used: 24 * 1024, most: 1024 * 1024 };
        assert_eq!(found, [of_host]);
    }

    #[test]
    fn the_limit_on_processes_holds_for_users_without_the_rights_of_root() {
        let host = FakeHost::v2();
        host.cgroup_file(5, "0::/a\n");
        host.write("sys/fs/cgroup/a/pids.max", b"50\n");
        host.write("sys/fs/cgroup/a/pids.current", b"10\n");
        host.write("proc/loadavg", b"0.1 0.1 0.1 2/900 77\n");
        host.write("proc/sys/kernel/threads-max", b"1800\n");
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             40                   80                   processes \n\
                      Max open files            unlimited            unlimited            files     \n";
        let status = |user: u32, capabilities: &str| {
            format!("Uid:\t{user}\t{user}\t{user}\t{user}\nThreads:\t4\nCapEff:\t{capabilities}\n")
        };
        host.write("proc/5/limits", limits.as_bytes());
        host.write("proc/5/status", status(33, "0000000000000000").as_bytes());
        host.write("proc/6/status", status(33, "0000000000000000").as_bytes());
        host.write("proc/7/status", status(34, "0000000000000000").as_bytes());
        let reader = host.reader();
        let found: Vec<_> =
            reader.thread_ceilings(5).into_iter().map(|it| (it.limit, it.used, it.most)).collect();
        let expected = [
            ("pids.max of /a".to_owned(), 10, 50),
            ("RLIMIT_NPROC of user 33".to_owned(), 8, 40),
            ("kernel.threads-max".to_owned(), 900, 1800),
        ];
        assert_eq!(found, expected);
        assert_eq!(reader.descriptor_ceiling(5), None, "unlimited");
        host.write("proc/5/status", status(33, "0000000001000000").as_bytes());
        assert_eq!(reader.thread_ceilings(5).len(), 2, "CAP_SYS_RESOURCE");
    }
}
