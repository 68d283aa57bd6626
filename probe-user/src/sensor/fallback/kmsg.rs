//! The kernel's log, `/dev/kmsg`: OOM kills, and what it says of the host ([`super::kernel_report`]).
//!
//! Its wording is no interface: it has changed, and may again. So OOM kills are only read where the hook is missing, and the
//! kernel's own counters beside it ([`super::oom_count`]). The forms are those of `mm/oom_kill.c` since
//! Linux 5.0.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
};

use super::kernel_report::{ReportLine, report};
use crate::{
    clock::Timestamp,
    fact::{OomScope, Source},
    host::{Cgroups as CgroupReader, cgroup::Hierarchy},
    sensor::record::{Cgroups, Oom},
};

const PATH: &str = "/dev/kmsg";

/// A record is at most this long (`CONSOLE_EXT_LOG_MAX`).
const RECORD_MAX: usize = 8192;

/// Most records read in one go.
const BATCH: usize = 4096;

/// An OOM kill as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomLine {
    /// When it was read.
    at: Timestamp,
    pid: u32,
    name: String,
    user_id: u32,
    scope: OomScope,
    /// Path of the memory cgroup whose limit was reached, from the hierarchy's root.
    limited: Option<String>,
    /// Resident anonymous, file-backed and shared memory, in bytes.
    resident: [u64; 3],
    score_adj: i16,
    /// The process whose allocation called the OOM killer: pid, 0 if not known, and name.
    trigger: (u32, String),
}

impl OomLine {
    /// The same as a record, with the limit that was reached, which the log does not have.
    pub fn record(self, cgroups: &CgroupReader) -> Oom {
        let page = procfs::page_size();
        let limit = |hierarchy| cgroups.memory_limit(hierarchy, self.limited.as_deref()?);
        let limit = limit(Hierarchy::Memory).or_else(|| limit(Hierarchy::V2));
        let [anon, file, shmem] = self.resident;
        Oom {
            at_ns: self.at.as_nanos(),
            source: Source::Kmsg,
            start_ns: 0,
            pid: Some(self.pid),
            tid: self.pid,
            uid: self.user_id,
            score_adj: self.score_adj.into(),
            anon_pages: anon / page,
            file_pages: file / page,
            shmem_pages: shmem / page,
            swap_pages: 0,
            limit_pages: limit.map(|bytes| bytes / page),
            cgroups: Cgroups::default(),
            main_pid: None,
            comm: self.name,
            trigger_pid: self.trigger.0,
            trigger_comm: self.trigger.1,
            scope: self.scope,
            stack: Vec::new(),
        }
    }
}

/// A record of the log that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogLine {
    Oom(OomLine),
    Host(ReportLine),
}

/// The kernel's log, from now on.
#[derive(Debug)]
pub struct Kmsg {
    log: File,
    reader: Lines,
}

impl Kmsg {
    /// Begins to read at the log's present end.
    ///
    /// Fails without `CAP_SYSLOG` where `kernel.dmesg_restrict` is set, and where `/dev` has no log, as in containers.
    pub fn open() -> io::Result<Self> {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut log = File::options().read(true).custom_flags(nonblocking).open(PATH)?;
        log.seek(SeekFrom::End(0))?;
        Ok(Self { log, reader: Lines::default() })
    }

    /// Passes on what was logged since; returns how often the kernel overwrote records that were not yet
    /// read.
    pub fn read(&mut self, mut each: impl FnMut(LogLine)) -> io::Result<u64> {
        let mut lost = 0;
        let mut buffer = [0; RECORD_MAX];
        for _ in 0..BATCH {
            match self.log.read(&mut buffer) {
                Ok(length) => {
                    if let Some(found) = self.reader.record(&buffer[..length]) {
                        each(found);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(lost),
                // Records were overwritten before they were read.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => lost += 1,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(lost)
    }
}

impl AsFd for Kmsg {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.log.as_fd()
    }
}

/// Whether a record is the kernel's own, by what stands before its text: programs may write to the log as well
/// (`Documentation/ABI/testing/dev-kmsg`).
fn is_the_kernel_s(head: &str) -> bool {
    let priority = head.split(',').next().and_then(|priority| priority.parse::<u32>().ok());
    priority.is_some_and(|priority| priority >> 3 == 0)
}

/// What was found in the lines before the one that names the victim.
#[derive(Debug, Default)]
pub(super) struct Lines {
    trigger: (u32, String),
    limited: Option<String>,
}

impl Lines {
    /// Reads a record as `/dev/kmsg` gives it; what it says, if it names the victim of a kill or is about the host.
    pub(super) fn record(&mut self, record: &[u8]) -> Option<LogLine> {
        let record = String::from_utf8_lossy(record);
        let line = record.split_once(';').filter(|(head, _)| is_the_kernel_s(head));
        let line = line.map_or("", |(_, text)| text);
        // What follows the first line are properties of the record.
        let line = line.lines().next().unwrap_or_default();
        self.line(line).map(LogLine::Oom).or_else(|| report(line).map(LogLine::Host))
    }

    /// Reads a line; the kill, if the line names the victim.
    fn line(&mut self, line: &str) -> Option<OomLine> {
        if let Some((name, _)) = line.split_once(" invoked oom-killer:") {
            *self = Self { trigger: (0, name.to_owned()), limited: None };
        } else if line.starts_with("CPU: ") {
            self.trigger.0 = number_after(line, "PID: ").unwrap_or_default();
        } else if let Some(fields) = line.strip_prefix("oom-kill:") {
            let path = fields.split(',').find_map(|field| field.strip_prefix("oom_memcg="));
            self.limited = path.map(str::to_owned);
        }
        let (cause, rest) = line.split_once(": Killed process ")?;
        let scope = match cause {
            "Memory cgroup out of memory" => OomScope::Memcg,
            "Out of memory" | "Out of memory (oom_kill_allocating_task)" => OomScope::Global,
            _ => OomScope::Unknown,
        };
        let (pid, rest) = rest.split_once(" (")?;
        // A name may have brackets of its own.
        let (name, numbers) = rest.split_once(") total-vm:")?;
        let kibibytes =
            |name| number_after(numbers, name).map_or(0, |number: u64| number.saturating_mul(1024));
        Some(OomLine {
            at: Timestamp::now(),
            pid: pid.parse().ok()?,
            name: name.to_owned(),
            user_id: number_after(numbers, "UID:").unwrap_or_default(),
            scope,
            limited: self.limited.clone().filter(|_| scope == OomScope::Memcg),
            resident: [kibibytes("anon-rss:"), kibibytes("file-rss:"), kibibytes("shmem-rss:")],
            score_adj: number_after(numbers, "oom_score_adj:").unwrap_or_default(),
            trigger: self.trigger.clone(),
        })
    }
}

/// The number behind a name in a line.
fn number_after<T: std::str::FromStr>(line: &str, name: &str) -> Option<T> {
    let (_, rest) = line.split_once(name)?;
    let end = rest.find(|it: char| !it.is_ascii_digit() && it != '-').unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.18 writes it.
    const MEMCG: [&str; 4] = [
        "victim invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
        "CPU: 1 UID: 0 PID: 4243 Comm: victim Not tainted 6.18.44 #1 PREEMPT(full)",
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/limited,\
         task_memcg=/limited/x,task=victim,pid=4242,uid=33",
        "Memory cgroup out of memory: Killed process 4242 (vic) tim) total-vm:105812kB, anon-rss:29848kB, \
         file-rss:2196kB, shmem-rss:4kB, UID:33 pgtables:128kB oom_score_adj:-500",
    ];

    #[test]
    fn a_kill_has_what_the_lines_before_it_say() {
        let mut lines = Lines::default();
        let found: Vec<_> = MEMCG.iter().filter_map(|line| lines.line(line)).collect();
        let [found] = found.try_into().unwrap();
        assert_eq!((found.pid, found.name.as_str(), found.user_id), (4242, "vic) tim", 33));
        assert_eq!((found.scope, found.limited.as_deref()), (OomScope::Memcg, Some("/limited")));
        assert_eq!(found.resident, [29848 << 10, 2196 << 10, 4 << 10]);
        assert_eq!((found.score_adj, found.trigger), (-500, (4243, "victim".to_owned())));
    }

    #[test]
    fn a_program_s_record_is_not_the_kernel_s() {
        assert!(is_the_kernel_s("6,339,5140900,-"));
        assert!(!is_the_kernel_s("14,340,5140901,-") && !is_the_kernel_s("") && !is_the_kernel_s("x,1"));
    }

    #[test]
    fn other_wordings_give_less_and_other_lines_nothing() {
        let mut lines = Lines::default();
        let global = "Out of memory: Killed process 7 (x) total-vm:1kB, anon-rss:2kB";
        let found = lines.line(global).unwrap();
        assert_eq!((found.pid, found.scope, found.limited), (7, OomScope::Global, None));
        assert_eq!((found.resident, found.trigger), ([2048, 0, 0], (0, String::new())));
        for line in [
            "",
            "oom_reaper: reaped process 7 (x), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB",
            "Out of memory: Killed process x (x) total-vm:1kB",
            "Out of memory: Killed process 7",
            "Out of memory: Killed process 99999999999999999999 (x) total-vm:1kB",
        ] {
            assert_eq!(lines.line(line), None, "{line}");
        }
    }
}
