//! The fallback sources, which serve where no hook is attached.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hostprobe::{
    fact::{ExitStatus, OomScope, Source},
    host::ProcReader,
    sensor::{
        ebpf::Hook,
        fallback::{Death, Sighting, StandIns},
    },
};
use hostprobe_tests::memcg::MemoryCgroup;
use rustix::process::Signal;
use tokio::runtime::Builder;

use super::{TRIES, oom};
use crate::{
    report::{self, Outcome},
    workload::Workload,
};

/// For one event. An emulated machine is slow.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A check that does not use the eBPF programs.
type Check = (&'static str, fn() -> Result<Outcome>);

const CHECKS: &[Check] =
    &[("fallback: exit statuses", exits), ("fallback: OOM kill of a memory cgroup", oom_kill)];

/// Runs in the initial network namespace: the process connector serves no other.
pub fn run() {
    for (name, check) in CHECKS {
        report::check(name, &check());
    }
}

fn exits() -> Result<Outcome> {
    let kill = |workload: &mut Workload| {
        // It cannot fail: the process is watched, so it lives.
        let _ = workload.signal(Signal::KILL);
    };
    let actions: [&[&str]; 4] = [&["exit", "7"], &["segv"], &["thread-segv"], &["leader-exits", "9"]];
    for action in actions {
        let (mut workload, death, _) = watched(|| Workload::start(action), Workload::release)?;
        compare(&death, &mut workload, action[0])?;
    }
    let (mut workload, death, _) = watched(|| Workload::start(&["exit", "0"]), kill)?;
    compare(&death, &mut workload, "SIGKILL")?;
    Ok(Outcome::Passed("status as wait(2) says, from the process connector".to_owned()))
}

fn compare(death: &Death, workload: &mut Workload, what: &str) -> Result<()> {
    let waited = ExitStatus::from_wait_status(workload.wait()?);
    ensure!(death.status == waited, "{what}: reported {}, wait(2) says {waited}", death.status);
    ensure!(death.source == Source::Netlink, "{what}: {death:?}");
    ensure!(death.parent_pid == Some(std::process::id()), "{what}: {death:?}");
    Ok(())
}

fn oom_kill() -> Result<Outcome> {
    let cgroup = MemoryCgroup::new(oom::LIMIT)?;
    let hog = || {
        let hog = oom::hog()?;
        cgroup.add(hog.pid())?;
        Ok(hog)
    };
    let (mut hog, death, before) = watched(hog, Workload::release)?;
    compare(&death, &mut hog, "allocate")?;
    ensure!(death.oom, "its cgroup's kill counter did not rise: {death:?}");
    let pid = hog.pid();
    let of_hog = |seen: &Sighting| matches!(seen, Sighting::Oom(line) if line.pid == pid);
    let Some(Sighting::Oom(line)) = before.into_iter().find(of_hog) else {
        bail!("the kernel log had no OOM line before the exit")
    };
    ensure!(line.scope == OomScope::Memcg && line.name == "allocate", "{line:?}");
    ensure!(i32::from(line.score_adj) == oom::SCORE, "{line:?}");
    let [anon, ..] = line.resident;
    ensure!((oom::LIMIT / 2..oom::LIMIT * 2).contains(&anon), "{anon} bytes of {}", oom::LIMIT);
    ensure!(line.limited.as_deref() == Some(cgroup.path().as_str()), "{line:?}, not {}", cgroup.path());
    Ok(Outcome::Passed("victim, scope and sizes from the kernel log, the kill from the counter".to_owned()))
}

/// Watches a process, acts on it, and returns its death with the events before it. Tries again if the connector reports a
/// loss, which other processes can cause.
fn watched(
    start: impl Fn() -> Result<Workload>,
    act: impl Fn(&mut Workload),
) -> Result<(Workload, Death, Vec<Sighting>)> {
    let reader = ProcReader::new("/")?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    for _ in 0..TRIES {
        let mut workload = start()?;
        let mut stand_ins = StandIns::open(&Hook::ALL, &reader, u32::MAX)?;
        stand_ins.watch_process(reader.key_of(workload.pid()).context("it lives")?);
        act(&mut workload);
        let (mut seen, deadline) = (Vec::new(), Instant::now() + TIMEOUT);
        let death = loop {
            ensure!(Instant::now() < deadline, "no exit was reported; {:?}", stand_ins.told());
            stand_ins.drain(&mut seen);
            let its = |it: &Sighting| matches!(it, Sighting::Death(death) if death.pid == workload.pid());
            if let Some(at) = seen.iter().position(its)
                && let Sighting::Death(death) = seen.swap_remove(at)
            {
                break death;
            }
            let _ = runtime.block_on(async { tokio::time::timeout(TIMEOUT, stand_ins.readable()).await });
        };
        if stand_ins.losses().iter().all(|loss| loss.class != "exit_connector") {
            return Ok((workload, death, seen));
        }
    }
    bail!("the connector lost events in each of {TRIES} attempts")
}
