//! The kernel's own report of an OOM kill, in its log: the limit that was reached, and all processes with what they held.
//!
//! The wording is no interface. What is not recognized is left out. The forms are those of `mm/oom_kill.c` and
//! `mm/memcontrol.c` since Linux 5.0; the table of tasks is there with `vm.oom_dump_tasks=1`, the default.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    sync::{Arc, Mutex, PoisonError},
};

use rustix::fs::OFlags;

const PATH: &str = "/dev/kmsg";

/// A record is at most this long (`CONSOLE_EXT_LOG_MAX`), and a log has at most so many that are read.
const RECORD_MAX: usize = 8192;
const RECORDS_MAX: usize = 65_536;

/// The most tasks of a table that are kept.
const TASKS_MAX: usize = 4096;

/// What a report has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OomReport {
    /// The memory cgroup whose limit was reached; None for the host's memory.
    pub limited: Option<String>,
    /// That limit, in bytes.
    pub limit: Option<u64>,
    /// Each task's pid, name, and resident memory in bytes.
    pub tasks: Vec<(u32, String, u64)>,
    /// Pages of the cgroup that the kernel looked at to free them, and that it had to read back after it had freed them.
    pub scanned: Option<u64>,
    pub refaulted: Option<u64>,
}

impl OomReport {
    /// How hard the kernel tried to free memory, in words.
    pub fn reclaim(&self) -> Option<String> {
        let scanned = self.scanned.filter(|pages| *pages > 0)?;
        let refaulted = self.refaulted.unwrap_or_default();
        Some(format!(
            "since the cgroup was made the kernel has scanned {scanned} pages of it, and read {refaulted} back (refaults)"
        ))
    }
}

/// The kernel's log, opened before the daemon gives up the right to (`CAP_SYSLOG` with `kernel.dmesg_restrict`). Clones share
/// it; None where it cannot be read.
#[derive(Clone, Debug, Default)]
pub struct OomLog(Option<Arc<Mutex<File>>>);

impl OomLog {
    pub fn open() -> Self {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let log = File::options().read(true).custom_flags(flags).open(PATH);
        Self(log.ok().map(|log| Arc::new(Mutex::new(log))))
    }

    /// The report on the kill of this process; None if it is not there or cannot be read. It blocks.
    pub fn of_victim(&self, pid: u32) -> Option<OomReport> {
        let mut log = self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        log.seek(SeekFrom::Start(0)).ok()?;
        let mut reports = Reports::new(procfs::page_size());
        let mut record = [0; RECORD_MAX];
        let mut found = None;
        for _ in 0..RECORDS_MAX {
            match log.read(&mut record) {
                // The end of the log.
                Ok(0) => break,
                Ok(length) => {
                    let text = String::from_utf8_lossy(&record[..length]);
                    if let Some((victim, report)) = reports.record(&text)
                        && victim == pid
                    {
                        found = Some(report);
                    }
                }
                // What was overwritten meanwhile is skipped.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        found
    }
}

/// Reads records of the log in their order.
struct Reports {
    page_bytes: u64,
    present: OomReport,
    /// Where the columns of the table of tasks are.
    in_table: bool,
}

impl Reports {
    fn new(page_bytes: u64) -> Self {
        Self { page_bytes, present: OomReport::default(), in_table: false }
    }

    /// Takes one record, and returns the report that it completes, with its victim.
    fn record(&mut self, record: &str) -> Option<(u32, OomReport)> {
        let (head, rest) = record.split_once(';')?;
        let priority: u32 = head.split(',').next()?.parse().ok()?;
        // Any other facility is a user's.
        if priority >> 3 != 0 {
            return None;
        }
        let mut done = None;
        // Before Linux 5.x all statistics are one record of several lines.
        for line in rest.lines().filter(|line| !line.starts_with(' ')) {
            done = self.line(line).or(done);
        }
        done
    }

    fn line(&mut self, line: &str) -> Option<(u32, OomReport)> {
        if line.contains(" invoked oom-killer: ") {
            (self.present, self.in_table) = (OomReport::default(), false);
        } else if let Some(rest) = line.strip_prefix("oom-kill:constraint=") {
            let mut report = std::mem::take(&mut self.present);
            self.in_table = false;
            // The path of a cgroup may have any character: its field ends where the next one begins.
            report.limited = between(rest, ",oom_memcg=", ",task_memcg=").map(str::to_owned);
            let (_, victim) = rest.rsplit_once(",pid=")?;
            return Some((victim.split(',').next()?.parse().ok()?, report));
        } else if let Some(rest) = line.strip_prefix("memory: usage ") {
            self.present.limit = between(rest, ", limit ", "kB").and_then(kibibytes);
        } else if line.starts_with("Tasks state ") || line.starts_with("[  pid  ]") {
            self.in_table = true;
        } else if let Some((pid, name, pages)) = self.in_table.then(|| task(line)).flatten() {
            if self.present.tasks.len() < TASKS_MAX {
                self.present.tasks.push((pid, name.to_owned(), pages.saturating_mul(self.page_bytes)));
            }
        } else {
            let number = |name: &str| line.strip_prefix(name)?.trim().parse::<u64>().ok();
            if let Some(pages) = number("pgscan ") {
                self.present.scanned = Some(pages);
            }
            if let Some(pages) =
                number("workingset_refault_anon ").or_else(|| number("workingset_refault_file "))
            {
                self.present.refaulted =
                    Some(self.present.refaulted.unwrap_or_default().saturating_add(pages));
            }
        }
        None
    }
}

fn between<'l>(line: &'l str, start: &str, end: &str) -> Option<&'l str> {
    let (_, rest) = line.split_once(start)?;
    rest.split_once(end).map(|(found, _)| found)
}

fn kibibytes(text: &str) -> Option<u64> {
    text.parse::<u64>().ok()?.checked_mul(1024)
}

/// `[   4711]     0  4711   131072    122880 …            0 python3`: pid, uid, tgid, total_vm, rss, and the name last.
fn task(line: &str) -> Option<(u32, &str, u64)> {
    let (pid, rest) = line.strip_prefix('[')?.split_once(']')?;
    let mut fields = rest.split_ascii_whitespace();
    let pages = fields.nth(3)?.parse().ok()?;
    // The score comes before the name, which may have spaces.
    let after_numbers =
        rest.trim_start().split_ascii_whitespace().take_while(|it| it.parse::<i64>().is_ok()).count();
    let mut name = rest.trim_start();
    for _ in 0..after_numbers {
        name = name.split_once(|it: char| it.is_ascii_whitespace())?.1.trim_start();
    }
    Some((pid.trim().parse().ok()?, name, pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.18 writes it, shortened.
    const MEMCG: &str = "python3 invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
memory: usage 524288kB, limit 524288kB, failcnt 35
Memory cgroup stats for /system.slice/app.service:
anon 503316480
workingset_refault_anon 0
workingset_refault_file 210
pgscan 4096
Tasks state (memory values in pages):
[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name
[   4711]     0  4711   141312   122880   122000      880        0  1048576        0             0 python3
[   4712]     0  4712      700      100       50       50        0    45056        0             0 a b
oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,oom_memcg=/system.slice/app.service,\
task_memcg=/system.slice/app.service,task=python3,pid=4711,uid=0";

    fn read(text: &str, priority: u32) -> Option<(u32, OomReport)> {
        let mut reports = Reports::new(4096);
        let records = text.lines().map(|line| format!("{priority},100,5000,-;{line}\n SUBSYSTEM=x\n"));
        records.filter_map(|record| reports.record(&record)).next()
    }

    #[test]
    fn a_report_has_the_limit_the_tasks_and_the_reclaim() {
        let (victim, report) = read(MEMCG, 6).unwrap();
        assert_eq!(victim, 4711);
        assert_eq!(report.limited.as_deref(), Some("/system.slice/app.service"));
        assert_eq!(report.limit, Some(512 << 20));
        let tasks = [(4711, "python3".to_owned(), 480 << 20), (4712, "a b".to_owned(), 409_600)];
        assert_eq!(report.tasks, tasks);
        assert_eq!((report.scanned, report.refaulted), (Some(4096), Some(210)));
        assert!(report.reclaim().unwrap().contains("scanned 4096 pages of it, and read 210 back"));
    }

    #[test]
    fn a_global_kill_has_no_cgroup_and_what_users_write_is_none() {
        let global = "x invoked oom-killer: gfp_mask=0x0\noom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,\
                      mems_allowed=0,global_oom,task_memcg=/a,task=x,pid=7,uid=0";
        assert_eq!(read(global, 6), Some((7, OomReport::default())));
        assert_eq!(read(MEMCG, 14), None, "facility 1 is that of users");
        for garbage in
            ["oom-kill:constraint=", "oom-kill:constraint=x,pid=", "[ x ] 1", "", "memory: usage x"]
        {
            assert_eq!(read(garbage, 6), None, "{garbage}");
        }
    }
}
