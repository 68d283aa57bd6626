//! The fallback sources, which serve where no hook is attached.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hostprobe::{
    clock::Timestamp,
    fact::{ExitStatus, OomScope, Source},
    host::ProcReader,
    sensor::{
        ebpf::Hook,
        fallback::FallbackSensor,
        loss::LossClass,
        record::{Exit, Record},
    },
};
use hostprobe_tests::memcg::MemoryCgroup;
use rustix::process::Signal;
use tokio::runtime::Builder;

use super::oom;
use crate::{
    check::{Check, TRIES},
    report::{self, Outcome},
    workload::Workload,
};

/// For one event. An emulated machine is slow.
const TIMEOUT: Duration = Duration::from_secs(30);

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
        let (mut workload, exit, _) = watched(|| Workload::start(action), Workload::release)?;
        compare(&exit, &mut workload, action[0])?;
    }
    let (mut workload, exit, _) = watched(|| Workload::start(&["exit", "0"]), kill)?;
    compare(&exit, &mut workload, "SIGKILL")?;
    Ok(Outcome::Passed("status as wait(2) says, from the process connector".to_owned()))
}

fn compare(exit: &Exit, workload: &mut Workload, what: &str) -> Result<()> {
    let waited = ExitStatus::from_wait_status(workload.wait()?);
    let status = exit.status.exit_status();
    ensure!(status == waited, "{what}: reported {status}, wait(2) says {waited}");
    ensure!(exit.source == Source::Netlink, "{what}: {exit:?}");
    ensure!(exit.parent_pid == std::process::id(), "{what}: {exit:?}");
    Ok(())
}

fn oom_kill() -> Result<Outcome> {
    let cgroup = MemoryCgroup::new(oom::LIMIT)?;
    let hog = || {
        let hog = oom::hog()?;
        cgroup.add(hog.pid())?;
        Ok(hog)
    };
    let (mut hog, exit, before) = watched(hog, Workload::release)?;
    compare(&exit, &mut hog, "allocate")?;
    ensure!(exit.oom_victim, "its cgroup's kill counter did not rise: {exit:?}");
    let pid = hog.pid();
    let of_hog = |seen: &Record| matches!(seen, Record::Oom(oom) if oom.pid == Some(pid));
    let Some(Record::Oom(oom)) = before.into_iter().find(of_hog) else {
        bail!("the kernel log had no OOM line before the exit")
    };
    ensure!(oom.scope == OomScope::Memcg && oom.comm == "allocate", "{oom:?}");
    ensure!(oom.score_adj == oom::SCORE, "{oom:?}");
    let limit = oom::LIMIT / oom::page_size();
    ensure!((limit / 2..limit * 2).contains(&oom.anon_pages), "{oom:?}; its limit is {limit} pages");
    ensure!(oom.limit_pages == Some(limit), "{oom:?}, not {limit} pages");
    Ok(Outcome::Passed("victim, scope and sizes from the kernel log, the kill from the counter".to_owned()))
}

/// Watches a process, acts on it, and returns its exit with the records before it. Tries again if the connector reports a
/// loss, which other processes can cause, or if its event came later than the sensor waits for it: an emulated machine
/// may stop a process for long between the two signs of its exit.
fn watched(
    start: impl Fn() -> Result<Workload>,
    act: impl Fn(&mut Workload),
) -> Result<(Workload, Exit, Vec<Record>)> {
    let reader = ProcReader::new("/")?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    for _ in 0..TRIES {
        let mut workload = start()?;
        let mut fallback = FallbackSensor::open((&Hook::ALL, false), &reader, u32::MAX, Timestamp::now())?;
        fallback.watch_process(reader.key_of(workload.pid()).context("it lives")?);
        act(&mut workload);
        let (mut seen, deadline) = (Vec::new(), Instant::now() + TIMEOUT);
        let exit = loop {
            ensure!(
                Instant::now() < deadline,
                "no exit was reported; {:?}",
                fallback.description_of(Hook::Exit)
            );
            fallback.drain(&mut seen);
            let its = |it: &Record| matches!(it, Record::Exit(exit) if exit.pid == workload.pid());
            if let Some(at) = seen.iter().position(its)
                && let Record::Exit(exit) = seen.swap_remove(at)
            {
                break exit;
            }
            let _ = runtime.block_on(async { tokio::time::timeout(TIMEOUT, fallback.readable()).await });
        };
        let is_whole = fallback.losses().iter().all(|loss| loss.class != LossClass::ExitConnector);
        if is_whole && exit.source == Source::Netlink {
            return Ok((workload, exit, seen));
        }
    }
    bail!("the connector lost events, or sent them late, in each of {TRIES} attempts")
}
