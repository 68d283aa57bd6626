//! The capabilities of processes, as the kernel tells them.

use std::fs;

/// What hostprobe needs to see everything as another user than root, by the names that util-linux knows. The unit and
/// docs/rights.md name the same.
pub const UNPRIVILEGED: [&str; 4] = ["bpf", "perfmon", "sys_ptrace", "dac_read_search"];

/// The capability sets of a thread (`capabilities(7)`), a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// What programs it executes may have.
    pub inheritable: u64,
    /// What it may make effective.
    pub permitted: u64,
    /// What it can do.
    pub effective: u64,
    /// The most that programs it executes can have.
    pub bounding: u64,
    /// What programs it executes will have.
    pub ambient: u64,
    /// Whether programs it executes can have no more than it has.
    pub no_new_privileges: bool,
}

/// The threads of a process, by name.
///
/// # Panics
/// If the process is gone.
pub fn of_all_threads(pid: u32) -> Vec<(String, Rights)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    // A thread may end meanwhile.
    let statuses = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    statuses.map(|status| read(&status)).collect()
}

fn read(status: &str) -> (String, Rights) {
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).expect("a line").trim();
    let set = |key: &str| u64::from_str_radix(line(key), 16).expect("a set");
    let rights = Rights {
        inheritable: set("CapInh:"),
        permitted: set("CapPrm:"),
        effective: set("CapEff:"),
        bounding: set("CapBnd:"),
        ambient: set("CapAmb:"),
        no_new_privileges: line("NoNewPrivs:") == "1",
    };
    (line("Name:").to_owned(), rights)
}
