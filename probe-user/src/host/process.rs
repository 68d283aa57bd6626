//! Processes as `/proc` shows them.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
};

use procfs::{FromRead, process::Stat};
use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};

use super::{
    ReadError,
    cgroup::{self, Cgroups, Hierarchy, TEXT_MAX},
    place,
    process_folder::ProcessFolder,
    read_record, read_text,
};
use crate::{
    clock::Timestamp,
    fact::{Cgroup, INITIAL_PID_NAMESPACE, Process, ProcessKey},
    redact,
};

/// The longest kept command line, in bytes.
const COMMAND_LINE_MAX: u64 = 4096;

/// A list of all possible children takes a few hundred kilobytes.
const CHILDREN_MAX: u64 = 4 << 20;

/// `PF_EXITING` in the kernel's `include/linux/sched.h`: it gives back what it holds.
const EXITING: u32 = 0x4;

/// The kernel takes no larger environment and arguments with the usual limit on the stack (`execve(2)`).
const ENVIRONMENT_MAX: u64 = 2 << 20;

/// `status` and `stat` are one or two kilobytes long.
pub(super) const STATUS_MAX: u64 = 64 * 1024;

/// The children of each process.
#[derive(Debug)]
pub struct ProcessTree {
    children: HashMap<u32, Vec<u32>>,
}

/// Whether there is a process with this pid, one that may not be signalled as well. It reads no file.
pub fn is_there(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

impl ProcessTree {
    /// A process and all its descendants.
    pub fn of(&self, pid: u32) -> Vec<u32> {
        subtree(pid, |parent| self.children_of(parent))
    }

    fn children_of(&self, pid: u32) -> Vec<u32> {
        self.children.get(&pid).cloned().unwrap_or_default()
    }
}

/// Reads `/proc`.
#[derive(Clone, Debug)]
pub struct ProcReader {
    pub(super) proc: PathBuf,
    cgroups: Cgroups,
    tick_nanos: u64,
    page_bytes: u64,
}

impl ProcReader {
    /// A reader of the host with this root folder: `/`, or a copy of its files.
    pub fn new(root: impl AsRef<Path>) -> Result<Self, ReadError> {
        let root = root.as_ref();
        Ok(Self {
            proc: root.join("proc"),
            cgroups: Cgroups::discover(root)?,
            tick_nanos: tick_nanos(),
            page_bytes: procfs::page_size(),
        })
    }

    /// The cgroup hierarchies of the same host.
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// The process with this pid, or None if it has ended.
    pub fn read(&self, pid: u32) -> Option<Process> {
        Some(self.read_with(pid, |hierarchy, path| self.cgroups.group(hierarchy, path))?.0)
    }

    /// [`Self::read`] without the command line: that is in the process's memory, which a hung process may have locked.
    pub fn read_around_memory(&self, pid: u32) -> Option<Process> {
        let folder = ProcessFolder::open(&self.folder(pid)).ok()?;
        Some(self.known_outside(pid, &folder, |hierarchy, path| self.cgroups.group(hierarchy, path))?.0)
    }

    /// The program that a process executes.
    pub fn executable(&self, pid: u32) -> Option<String> {
        executable(&self.folder(pid).join("exe"))
    }

    /// [`Self::read`] with the process's cgroups. `group` looks up the one that identifies it.
    pub(super) fn read_with(
        &self,
        pid: u32,
        group: impl FnOnce(Hierarchy, &str) -> Cgroup,
    ) -> Option<(Process, cgroup::Groups)> {
        let folder = ProcessFolder::open(&self.folder(pid)).ok()?;
        let (mut process, groups) = self.known_outside(pid, &folder, group)?;
        process.command_line = folder.read(c"cmdline", COMMAND_LINE_MAX, command_line).ok().flatten();
        Some((process, groups))
    }

    /// What the kernel knows of a process without a look into its memory.
    fn known_outside(
        &self,
        pid: u32,
        folder: &ProcessFolder,
        group: impl FnOnce(Hierarchy, &str) -> Cgroup,
    ) -> Option<(Process, cgroup::Groups)> {
        let stat = folder.read(c"stat", STATUS_MAX, stat).ok()??;
        let (user_id, namespace_pid) = folder.read(c"status", STATUS_MAX, ids).ok()?;
        let groups = folder.read(c"cgroup", TEXT_MAX, |text| self.cgroups.groups_in(text));
        let groups = groups.unwrap_or_default();
        let link = folder.link(c"exe").ok();
        let process = Process {
            key: self.key(pid, &stat),
            parent_pid: u32::try_from(stat.ppid).unwrap_or_default(),
            name: stat.comm,
            executable: link.and_then(|link| program(&link.to_string_lossy())),
            command_line: None,
            user_id,
            cgroup: groups.main().map(|(hierarchy, path)| group(hierarchy, path)),
            container_id: groups.paths().find_map(cgroup::container_id),
            namespace_pid,
        };
        Some((process, groups))
    }

    /// The parents and children of all processes, at this moment.
    pub fn process_tree(&self) -> ProcessTree {
        let parent = |pid: u32| self.stat(pid).and_then(|stat| u32::try_from(stat.ppid).ok());
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for pid in self.pids().unwrap_or_default() {
            if let Some(parent) = parent(pid) {
                children.entry(parent).or_default().push(pid);
            }
        }
        ProcessTree { children }
    }

    /// The living descendants of a process, as far as their parents live. A process that `is_apart` accepts has its
    /// own lineage, so it and its descendants are left out. Reads these processes only, if the kernel lists children
    /// (`CONFIG_PROC_CHILDREN`), else all.
    pub fn descendants(&self, pid: u32, is_apart: impl Fn(u32) -> bool) -> Vec<ProcessKey> {
        let all = (!self.lists_children(pid)).then(|| self.process_tree());
        let found = subtree(pid, |parent| {
            let mut children = match &all {
                Some(all) => all.children_of(parent),
                None => self.children_of(parent),
            };
            children.retain(|child| !is_apart(*child));
            children
        });
        found.into_iter().skip(1).filter_map(|pid| self.key_of(pid)).collect()
    }

    /// The children of a process that have ended and that it has not waited for.
    pub fn zombies_of(&self, pid: u32) -> Vec<ProcessKey> {
        let ended = |child: u32| {
            let stat = self.stat(child)?;
            (stat.state == 'Z').then(|| self.key(child, &stat))
        };
        self.direct_children(pid).into_iter().filter_map(ended).collect()
    }

    /// A variable of the environment that a process had at its exec. The read waits for a process whose memory the kernel
    /// has locked.
    pub fn variable(&self, pid: u32, name: &str) -> Option<String> {
        let environment = read_record(&self.folder(pid).join("environ"), ENVIRONMENT_MAX).ok()?;
        let value =
            |entry: &[u8]| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec);
        String::from_utf8(environment.split(|byte| *byte == 0).find_map(value)?).ok()
    }

    pub fn direct_children(&self, pid: u32) -> Vec<u32> {
        if self.lists_children(pid) { self.children_of(pid) } else { self.process_tree().children_of(pid) }
    }

    /// A process and all its descendants, read from these alone. None if the kernel does not list children.
    pub(super) fn listed_subtree(&self, pid: u32) -> Option<Vec<u32>> {
        self.lists_children(pid).then(|| subtree(pid, |parent| self.children_of(parent)))
    }

    fn lists_children(&self, pid: u32) -> bool {
        fs::exists(self.folder(pid).join(format!("task/{pid}/children"))).unwrap_or(false)
    }

    /// The children of all threads of a process, if the kernel lists them.
    pub(super) fn children_of(&self, pid: u32) -> Vec<u32> {
        let threads = fs::read_dir(self.folder(pid).join("task")).into_iter().flatten().flatten();
        let listed = |thread: fs::DirEntry| {
            read_text(&thread.path().join("children"), CHILDREN_MAX).unwrap_or_default()
        };
        let parse =
            |text: String| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>();
        threads.map(listed).flat_map(parse).collect()
    }

    /// The identity of the process with this pid; cheaper than [`ProcReader::read`].
    pub fn key_of(&self, pid: u32) -> Option<ProcessKey> {
        Some(self.key(pid, &self.stat(pid)?))
    }

    /// [`Self::key_of`] with the parent's pid. It reads nothing from the process's memory, which a hung process may
    /// have locked.
    pub fn descent(&self, pid: u32) -> Option<(ProcessKey, u32)> {
        let stat = self.stat(pid)?;
        Some((self.key(pid, &stat), u32::try_from(stat.ppid).unwrap_or_default()))
    }

    /// Whether the daemon's pids are the host's; None if unreadable.
    pub fn is_in_initial_pid_namespace(&self) -> Option<bool> {
        Some(place::namespace(&self.proc, "pid")? == INITIAL_PID_NAMESPACE)
    }

    /// Whether exactly this process still runs. A process whose first thread has ended still runs. Needs no right over
    /// it.
    pub fn runs(&self, key: ProcessKey) -> bool {
        let ended = |stat: &Stat| matches!(stat.state, 'Z' | 'X') && stat.num_threads <= 1;
        self.stat(key.pid).is_some_and(|stat| self.key(key.pid, &stat) == key && !ended(&stat))
    }

    /// The same, and the kernel has not reported its end yet.
    pub fn lives(&self, key: ProcessKey) -> bool {
        let ended = |stat: &Stat| is_ending(stat) && stat.num_threads <= 1;
        self.stat(key.pid).is_some_and(|stat| self.key(key.pid, &stat) == key && !ended(&stat))
    }

    /// Whether a process has a controlling terminal; None if it has ended.
    pub fn has_terminal(&self, key: ProcessKey) -> Option<bool> {
        let stat = self.living(key.pid).filter(|stat| self.key(key.pid, stat) == key)?;
        Some(stat.tty_nr != 0)
    }

    /// Whether job control can stop a process. In an orphaned process group the kernel discards SIGTSTP, SIGTTIN and
    /// SIGTTOU (`get_signal` in `kernel/signal.c`), and the group of a session's leader is orphaned.
    pub fn has_job_control(&self, pid: u32) -> bool {
        self.stat(pid).is_none_or(|stat| stat.pgrp != stat.session)
    }

    /// The systemd unit that a process runs in, by its cgroup's path.
    pub fn unit(&self, pid: u32) -> Option<String> {
        self.unit_if_known(pid).flatten()
    }

    /// The same: `Some(None)` if it runs in none, None if the process is gone.
    pub fn unit_if_known(&self, pid: u32) -> Option<Option<String>> {
        let groups = self.cgroups.of(pid);
        groups.paths().next()?;
        Some(groups.paths().find_map(cgroup::unit_name))
    }

    /// The same, if it is a unit of the host's own systemd.
    pub fn own_unit(&self, pid: u32) -> Option<String> {
        self.cgroups.of(pid).paths().find_map(cgroup::own_unit_name)
    }

    /// The inode of a process's pid namespace; None if that cannot be read, as of one that has ended.
    pub fn pid_namespace(&self, pid: u32) -> Option<u32> {
        place::namespace_of(&self.folder(pid), "pid")
    }

    /// The inode of a process's network namespace; None if that cannot be read.
    pub fn network_namespace(&self, pid: u32) -> Option<u32> {
        place::namespace_of(&self.folder(pid), "net")
    }

    pub fn pids(&self) -> Result<Vec<u32>, ReadError> {
        let entries = fs::read_dir(&self.proc).map_err(ReadError::at(&self.proc))?;
        Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
    }

    /// The folder of `/proc` itself.
    pub(crate) fn proc(&self) -> &Path {
        &self.proc
    }

    /// The host's counters of its memory management.
    pub(crate) fn vmstat(&self) -> PathBuf {
        self.proc.join("vmstat")
    }

    pub(crate) fn folder(&self, pid: u32) -> PathBuf {
        self.proc.join(pid.to_string())
    }

    pub(super) fn stat(&self, pid: u32) -> Option<Stat> {
        stat(&read_record(&self.folder(pid).join("stat"), STATUS_MAX).ok()?)
    }

    /// The same of a process of which the first thread neither has ended nor is about to.
    pub(super) fn living(&self, pid: u32) -> Option<Stat> {
        self.stat(pid).filter(|stat| !is_ending(stat))
    }

    pub(super) fn key(&self, pid: u32, stat: &Stat) -> ProcessKey {
        let start = Timestamp::from_proc_nanos(stat.starttime.saturating_mul(self.tick_nanos));
        ProcessKey { pid, start }
    }

    pub(crate) fn tick_nanos(&self) -> u64 {
        self.tick_nanos
    }

    pub(super) fn page_bytes(&self) -> u64 {
        self.page_bytes
    }
}

/// Whether a process has ended or is about to. Its descriptors are open for a moment after the kernel has reported its
/// end: `do_exit` in `kernel/exit.c` has the tracepoint before `exit_files`.
fn is_ending(stat: &Stat) -> bool {
    matches!(stat.state, 'Z' | 'X') || stat.flags & EXITING != 0
}

fn stat(bytes: &[u8]) -> Option<Stat> {
    is_whole_stat(bytes).then(|| Stat::from_read(bytes).ok())?
}

/// The real user, and the pid in the innermost pid namespace if that is not the daemon's.
fn ids(status: &[u8]) -> (u32, Option<u32>) {
    let status = String::from_utf8_lossy(status);
    let user = status_field(&status, "Uid").next().unwrap_or_default();
    (user, status_field(&status, "NSpid").skip(1).last())
}

/// Whether a name in parentheses stands between a number and further fields. `Stat::from_read` panics without that.
fn is_whole_stat(stat: &[u8]) -> bool {
    let stat = stat.trim_ascii();
    let at = |wanted: u8| stat.iter().position(|byte| *byte == wanted);
    let last = stat.iter().rposition(|byte| *byte == b')');
    let (Some(start), Some(end)) = (at(b'('), last) else { return false };
    (1..end).contains(&start) && stat[start - 1] == b' ' && stat.get(end + 1) == Some(&b' ')
}

fn tick_nanos() -> u64 {
    1_000_000_000 / procfs::ticks_per_second().max(1)
}

/// The executable of a process, from the kernel; a kernel thread has none.
pub(super) fn executable(link: &Path) -> Option<String> {
    program(&fs::read_link(link).ok()?.to_string_lossy())
}

fn program(path: &str) -> Option<String> {
    // A package upgrade replaces the file under the running process, which still executes the old one.
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    (!path.is_empty()).then(|| path.to_owned())
}

fn command_line(arguments: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(arguments);
    let line = redact::arguments(text.trim_end_matches('\0').split('\0'));
    (!line.is_empty()).then_some(line)
}

/// The numbers in a field of `status`.
///
/// The procfs crate refuses the whole file where the process gave itself a name that is not UTF-8.
pub(super) fn status_field<'a>(status: &'a str, name: &str) -> impl Iterator<Item = u32> + 'a {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().split_whitespace().map_while(|number| number.parse().ok())
}

/// A process and all its descendants, parents first, each once: a pid that is used again meanwhile may be listed below
/// itself.
fn subtree(pid: u32, children: impl Fn(u32) -> Vec<u32>) -> Vec<u32> {
    let (mut found, mut known) = (vec![pid], HashSet::from([pid]));
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(children(parent).into_iter().filter(|child| known.insert(*child)));
        next += 1;
    }
    found
}

/// Whether a read failed because the process is gone.
pub(super) fn vanished(error: &io::Error) -> bool {
    // Files that were opened before the process ended return ESRCH.
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(3)
}

#[cfg(test)]
mod tests;
