//! What processes use: CPU time to the nanosecond, memory, and how often they wake up.

use std::{
    collections::BTreeSet,
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use hostprobe::host::ProcReader;

use crate::process::cpu_time;

/// What some processes used during a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Used {
    /// How long the window was, ns.
    pub took_ns: f64,
    /// CPU time, user and system, ns.
    pub cpu_ns: f64,
    /// How often their threads went to sleep to be woken later.
    pub sleeps: f64,
}

impl Used {
    /// CPU time in percent of one core.
    pub fn percent(&self) -> f64 {
        self.cpu_ns / self.took_ns * 100.0
    }

    /// Wake-ups a second.
    pub fn wakeups(&self) -> f64 {
        self.sleeps / self.took_ns * 1e9
    }
}

/// The resident memory of some processes, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// All of it, as `ps` shows it (VmRSS).
    pub resident: f64,
    /// The same, with what several processes share divided among them (PSS).
    pub proportional: f64,
    /// What no file holds: heap, stacks, relocated data (RssAnon).
    pub anonymous: f64,
}

/// Lets some time pass and says what each of these process trees used of it: processes, with all that descend from them.
pub fn window(families: &[Vec<u32>], length: Duration) -> Result<Vec<Used>> {
    let read = || -> Result<Vec<(u64, u64)>> { families.iter().map(|roots| so_far(roots)).collect() };
    let (began, before) = (Instant::now(), read()?);
    thread::sleep(length);
    let (took_ns, after) = (began.elapsed().as_nanos() as f64, read()?);
    let used = before.iter().zip(&after).map(|(before, after)| Used {
        took_ns,
        cpu_ns: after.0.saturating_sub(before.0) as f64,
        sleeps: after.1.saturating_sub(before.1) as f64,
    });
    Ok(used.collect())
}

/// The memory of these processes and of all that descend from them.
pub fn memory(roots: &[u32]) -> Result<Memory> {
    let mut all = Memory::default();
    for pid in process_tree(roots)? {
        // One that has ended meanwhile has none.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { continue };
        all.resident += kib(&status, "VmRSS:") * 1024.0;
        all.anonymous += kib(&status, "RssAnon:") * 1024.0;
        all.proportional += kib(&rollup, "Pss:") * 1024.0;
    }
    Ok(all)
}

fn kib(text: &str, key: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// CPU time in ns and voluntary context switches since they were started, of these processes and what descends from them.
fn so_far(roots: &[u32]) -> Result<(u64, u64)> {
    let (mut cpu, mut sleeps) = (0, 0);
    for pid in process_tree(roots)? {
        let Ok(own) = cpu_time(pid) else { continue };
        cpu += own + of_ended_children(pid);
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            sleeps += kib(&status, "voluntary_ctxt_switches:") as u64;
        }
    }
    let root_lives = roots.iter().all(|root| fs::exists(format!("/proc/{root}/stat")).unwrap_or(false));
    root_lives.then_some((cpu, sleeps)).context("what was to be measured has ended")
}

/// The CPU time of children that have ended and been waited for, ns; the kernel keeps it in ticks.
fn of_ended_children(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the last parenthesis may hold anything. `cutime` and `cstime` are the 16th and 17th field.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks: u64 =
        fields.split_whitespace().skip(13).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    // USER_HZ, which is 100 on all architectures of today.
    ticks * 10_000_000
}

/// These processes and all that descend from them.
fn process_tree(roots: &[u32]) -> Result<BTreeSet<u32>> {
    let tree = ProcReader::new("/").context("cannot read /proc")?.process_tree();
    Ok(roots.iter().flat_map(|root| tree.of(*root)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_has_cpu_time() -> Result<()> {
        let before = so_far(&[std::process::id()])?.0;
        // Other programs may have the CPU for most of the time.
        let end = Instant::now() + Duration::from_secs(60);
        while so_far(&[std::process::id()])?.0 - before < 10_000_000 {
            assert!(Instant::now() < end, "it has had no CPU time");
        }
        let memory = memory(&[std::process::id()])?;
        assert!(memory.anonymous > 0.0 && memory.resident >= memory.proportional, "{memory:?}");
        assert!(so_far(&[u32::MAX / 4]).is_err());
        Ok(())
    }
}
