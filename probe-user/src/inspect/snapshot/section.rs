//! The sections of a snapshot.

use std::{collections::HashSet, fs, path::Path};

use super::draft::{Draft, Subject};
use crate::{
    fact::TcpState,
    host::{ProcReader, cgroup::Hierarchy, read_text},
};

/// Processes shown.
const PROCESSES_MAX: usize = 128;
/// Threads shown of all processes together.
const THREADS_MAX: usize = 1024;
/// Descriptors shown per process.
const DESCRIPTORS_MAX: usize = 256;
/// Sockets shown.
const SOCKETS_MAX: usize = 512;
/// The largest file of a cgroup that is shown. Real ones are far smaller.
const FILE_MAX: u64 = 16 * 1024;

pub(super) fn last_exits(_: &ProcReader, subject: &Subject, _: &[u32], draft: &Draft) {
    if subject.last_exits.is_empty() {
        draft.line("none since hostprobe watches");
    }
    for exit in &subject.last_exits {
        draft.line(exit);
    }
}

/// The daemon has dropped CAP_SYS_ADMIN, so it cannot read kernel stacks. The wait channel is a stack's innermost
/// function.
pub(super) fn threads(reader: &ProcReader, _: &Subject, pids: &[u32], draft: &Draft) {
    let mut shown = 0;
    for &pid in pids {
        let (threads, all) = reader.threads(pid, THREADS_MAX - shown);
        if threads.len() < all {
            draft.line(&format!("process {pid}: {} of {all} threads are shown", threads.len()));
        }
        for thread in threads {
            shown += 1;
            let (tid, name, state) = (thread.tid, &thread.name, thread.state);
            let channel = reader.wait_channel(pid, tid).unwrap_or_else(|| "-".to_owned());
            let call = reader.task_text(pid, tid, "syscall").unwrap_or_else(|| "not readable".to_owned());
            let cpu = thread.cpu_since(None).as_secs_f64();
            let more = draft.line(&format!(
                "process {pid} thread {tid} ({name}) state {state} wchan {channel} syscall {} cpu {cpu:.3}s",
                // Arguments and addresses may be secret; the number of the system call is not.
                call.split_ascii_whitespace().next().unwrap_or_default(),
            ));
            if !more {
                return;
            }
        }
    }
}

pub(super) fn sockets(reader: &ProcReader, _: &Subject, pids: &[u32], draft: &Draft) {
    let mut namespaces = HashSet::new();
    let held: HashSet<u64> = pids.iter().flat_map(|pid| reader.socket_inodes(*pid)).collect();
    let (mut shown, mut all) = (0, 0);
    let backlogs = reader.accept_queues(pids);
    for pid in pids {
        let folder = reader.folder(*pid);
        if !namespaces.insert(fs::read_link(folder.join("ns/net")).ok()) {
            continue;
        }
        let sockets = reader.connections(&folder.join("net"), |it| held.contains(&it.inode));
        for it in sockets.unwrap_or_default() {
            all += 1;
            if shown == SOCKETS_MAX {
                continue;
            }
            shown += 1;
            let backlog =
                backlogs.iter().find(|(inode, _)| *inode == it.inode).map(|(_, queue)| queue.backlog);
            let line = match (it.state, backlog) {
                (TcpState::Listen, Some(backlog)) if backlog != u32::MAX => {
                    format!("tcp listen {} waiting {} backlog {backlog}", it.local, it.received)
                }
                (TcpState::Listen, _) => format!("tcp listen {} waiting {}", it.local, it.received),
                (state, _) => format!(
                    "tcp {} {} -> {} unsent or unacknowledged {} unread {}",
                    state.as_str(),
                    it.local,
                    it.remote,
                    it.sending,
                    it.received
                ),
            };
            draft.line(&line);
        }
    }
    draft.line(&format!(
        "{shown} of {all} TCP sockets are shown; {} sockets of any kind are open",
        held.len()
    ));
}

pub(super) fn descriptors(reader: &ProcReader, _: &Subject, pids: &[u32], draft: &Draft) {
    for pid in pids.iter().take(PROCESSES_MAX) {
        let folder = reader.folder(*pid).join("fd");
        let Ok(entries) = fs::read_dir(&folder) else {
            draft.line(&format!("process {pid}: not readable"));
            continue;
        };
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
        let mut numbers: Vec<u32> = entries.filter_map(Result::ok).filter_map(number).collect();
        numbers.sort_unstable();
        let first = numbers.len().min(DESCRIPTORS_MAX);
        draft.line(&format!("process {pid}: {} open, the first {first} of them:", numbers.len()));
        for number in &numbers[..first] {
            let target = fs::read_link(folder.join(number.to_string())).unwrap_or_default();
            if !draft.line(&format!("    {number} {}", target.display())) {
                return;
            }
        }
    }
}

pub(super) fn cgroup(reader: &ProcReader, subject: &Subject, _: &[u32], draft: &Draft) {
    const V2: [&str; 9] = [
        "memory.current",
        "memory.max",
        "memory.high",
        "memory.events",
        "memory.swap.current",
        "pids.current",
        "pids.max",
        "cpu.max",
        "cpu.stat",
    ];
    const V1: [&str; 5] = [
        "memory.usage_in_bytes",
        "memory.limit_in_bytes",
        "memory.max_usage_in_bytes",
        "memory.failcnt",
        "memory.oom_control",
    ];
    const PRESSURE: [&str; 3] = ["cpu.pressure", "memory.pressure", "io.pressure"];
    let cgroups = reader.cgroups();
    let groups = cgroups.of(subject.main.pid);
    for (hierarchy, group, files) in
        [(Hierarchy::V2, &groups.v2, &V2[..]), (Hierarchy::Memory, &groups.memory, &V1[..])]
    {
        let Some(path) = group else { continue };
        let Some(folder) = cgroups.folder(hierarchy, path) else { continue };
        draft.line(path);
        for file in files {
            file_of(&folder, file, draft);
        }
        if hierarchy == Hierarchy::V2 {
            PRESSURE.iter().for_each(|file| file_of(&folder, file, draft));
        }
    }
}

/// Shows a file of a folder under its name, if it is there.
fn file_of(folder: &Path, file: &str, draft: &Draft) {
    let Ok(text) = read_text(&folder.join(file), FILE_MAX) else { return };
    match text.trim_end() {
        text if text.contains('\n') => {
            draft.line(&format!("{file}:"));
            draft.indented(text);
        }
        text => {
            draft.line(&format!("{file}: {text}"));
        }
    }
}

pub(super) fn limits(reader: &ProcReader, subject: &Subject, _: &[u32], draft: &Draft) {
    file_of(&reader.folder(subject.main.pid), "limits", draft);
}

pub(super) fn host(reader: &ProcReader, _: &Subject, _: &[u32], draft: &Draft) {
    for file in ["cpu", "memory", "io"] {
        file_of(&reader.pressure_folder(), file, draft);
    }
    file_of(reader.proc(), "loadavg", draft);
    // Names on one line, their values on the next.
    let counters = read_text(&reader.proc().join("net/netstat"), FILE_MAX).unwrap_or_default();
    let mut lines = counters.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    for (name, value) in names.split_ascii_whitespace().zip(values.split_ascii_whitespace()) {
        if ["ListenOverflows", "ListenDrops"].contains(&name) {
            draft.line(&format!("{name} since the host's start: {value}"));
        }
    }
}

pub(super) fn command_lines(reader: &ProcReader, _: &Subject, pids: &[u32], draft: &Draft) {
    for pid in pids.iter().take(PROCESSES_MAX) {
        let Some(process) = reader.read(*pid) else { continue };
        let command = process.command_line.unwrap_or_else(|| "-".to_owned());
        let (parent, name, user) = (process.parent_pid, process.name, process.user_id);
        let exe = process.executable.unwrap_or_else(|| "-".to_owned());
        draft.line(&format!("process {pid} ({name}) parent {parent} user {user} exe {exe}: {command}"));
    }
    if pids.len() > PROCESSES_MAX {
        draft.line(&format!("{PROCESSES_MAX} of {} processes are shown", pids.len()));
    }
}
