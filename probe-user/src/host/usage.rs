//! The resource usage of processes: CPU time, memory, threads and file descriptors.

use std::{fs, time::Duration};

use rustix::fs::PROC_SUPER_MAGIC;

use super::{ProcReader, ReadError, read_text};
use crate::{clock::Timestamp, fact::ProcessKey};

/// The usage of a set of processes at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    pub at: Timestamp,
    /// Processor time of each process since its start, user and system.
    pub cpu: Vec<(ProcessKey, Duration)>,
    /// Resident memory in bytes; shared memory counts for each process.
    pub rss_bytes: u64,
    pub threads: u64,
    /// Open file descriptors of those processes whose descriptors are readable.
    pub fds: u64,
}

impl ProcReader {
    /// The present usage of these processes. An ended process uses nothing.
    pub fn usage(&self, pids: &[u32]) -> Usage {
        let mut usage = Usage { at: Timestamp::now(), ..Usage::default() };
        for &pid in pids {
            let Some(stat) = self.stat(pid) else { continue };
            let ticks = stat.utime.saturating_add(stat.stime);
            let cpu = Duration::from_nanos(ticks.saturating_mul(self.tick_nanos()));
            usage.cpu.push((self.key(pid, &stat), cpu));
            let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
            add(&mut usage.rss_bytes, stat.rss.saturating_mul(self.page_bytes()));
            add(&mut usage.threads, u64::try_from(stat.num_threads).unwrap_or_default());
            add(&mut usage.fds, self.open_files(pid).unwrap_or_default());
        }
        usage
    }

    /// The host's memory, in bytes.
    pub fn memory_total(&self) -> Result<u64, ReadError> {
        let path = self.proc().join("meminfo");
        let text = read_text(&path, 64 * 1024).map_err(ReadError::at(&path))?;
        let kibibytes = text.lines().find_map(|line| {
            line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        let missing = || std::io::Error::new(std::io::ErrorKind::InvalidData, "it has no MemTotal");
        Ok(kibibytes.ok_or_else(missing).map_err(ReadError::at(path))?.saturating_mul(1024))
    }

    /// The number of open descriptors; None if they are unreadable.
    pub(super) fn open_files(&self, pid: u32) -> Option<u64> {
        let folder = self.folder(pid).join("fd");
        // Since Linux 6.2 the folder's size is their number. On older kernels it is 0.
        let size = fs::metadata(&folder).ok()?.len();
        if size > 0 && rustix::fs::statfs(&folder).is_ok_and(|fs| fs.f_type == PROC_SUPER_MAGIC) {
            return Some(size);
        }
        Some(fs::read_dir(folder).ok()?.count() as u64)
    }
}

impl Usage {
    /// CPU time since an earlier reading, in percent of one core. None if no time has passed.
    ///
    /// Only processes in both readings count, and those started in between. An ended process took its time with it. A
    /// process that the earlier reading missed would count with its whole life.
    pub fn cpu_percent(&self, earlier: &Self) -> Option<f64> {
        let elapsed = self.at.since(earlier.at);
        if elapsed.is_zero() {
            return None;
        }
        let used: Duration = self
            .cpu
            .iter()
            .map(|(key, now)| match earlier.cpu.iter().find(|(before, _)| before == key) {
                Some((_, before)) => now.saturating_sub(*before),
                None if key.start >= earlier.at => *now,
                None => Duration::ZERO,
            })
            .sum();
        Some(used.as_secs_f64() / elapsed.as_secs_f64() * 100.0)
    }

    /// Resident memory in percent of the limit of the processes' memory cgroup, or of the host's memory without a
    /// limit. Both in bytes.
    pub fn memory_percent(&self, limit: Option<u64>, total: u64) -> f64 {
        // A limit above the host's memory does not limit.
        let of = limit.unwrap_or(total).min(total).max(1);
        self.rss_bytes as f64 / of as f64 * 100.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn a_set_of_processes_is_added_up() {
        let host = FakeHost::v2();
        host.process(10, 1, "a", "/a");
        host.process(11, 10, "a", "/a");
        host.fd(11, 0, "/dev/null");
        host.write("proc/12/stat", b"garbage");
        host.write("proc/meminfo", b"MemTotal:       2000 kB\nMemFree:  1 kB\n");
        let reader = host.reader();
        let usage = reader.usage(&[10, 11, 12, 999]);
        assert_eq!(usage.cpu.len(), 2);
        assert_eq!(usage.cpu[0].1, Duration::from_millis(250));
        assert_eq!((usage.threads, usage.fds), (6, 1));
        assert_eq!(usage.rss_bytes, 100 * procfs::page_size());

        assert_eq!(reader.memory_total().unwrap(), 2_048_000);
        host.write("proc/meminfo", b"garbage");
        assert!(reader.memory_total().unwrap_err().to_string().contains("meminfo"));
    }

    #[test]
    fn the_sum_of_what_no_process_can_use_is_the_most_there_is() {
        let host = FakeHost::v2();
        for pid in [10, 11] {
            host.process(pid, 1, "a", "/a");
            let path = host.root().join(format!("proc/{pid}/stat"));
            let stat = fs::read_to_string(&path).unwrap();
            let most = u64::MAX.to_string();
            let huge = stat.replace(&format!(" 50 {most} "), &format!(" {most} {most} "));
            assert_ne!(stat, huge);
            fs::write(path, huge).unwrap();
        }
        assert_eq!(host.reader().usage(&[10, 11]).rss_bytes, u64::MAX);
    }

    #[test]
    fn percentages_are_of_one_core_and_of_the_tightest_limit() {
        let at = |seconds: u64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let process =
            |pid, start, millis| (ProcessKey { pid, start: at(start) }, Duration::from_millis(millis));
        let before =
            Usage { at: at(100), cpu: vec![process(1, 5, 1000), process(2, 5, 9000)], ..Usage::default() };
        let after = Usage {
            at: at(110),
            cpu: vec![process(1, 5, 6000), process(2, 101, 2000), process(3, 50, 60_000)],
            rss_bytes: 500,
            ..Usage::default()
        };
        assert_eq!(after.cpu_percent(&before), Some(70.0));
        assert_eq!(after.cpu_percent(&after), None);
        assert_eq!(after.memory_percent(Some(1000), 10_000), 50.0);
        assert_eq!(after.memory_percent(None, 10_000), 5.0);
        assert_eq!(after.memory_percent(Some(u64::MAX), 10_000), 5.0);
    }
}
