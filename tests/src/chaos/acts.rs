//! Does to the services what a round has planned.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    fault::{End, Fault},
    lab::{LONG, Lab, Pids},
    oracle::LOAD,
    plan::{Planned, Round},
};
use crate::{
    cgroup, http,
    incident_events::{is, text},
    memcg::MemoryCgroup,
    process::children,
};

/// The limit of a service that is to run out of memory, and what it then takes, MB.
const MEMORY: u64 = 30 << 20;
const TAKEN: u32 = 100;

/// More than `slow` allows, and less than a probe's timeout.
const SLOW_MS: u32 = 1300;

/// How often a service is killed at most until its budget is spent.
const BURST: usize = 12;

/// What has to be undone, or to last, until the round ends.
#[derive(Default)]
pub(super) struct Held {
    groups: Vec<MemoryCgroup>,
}

/// Causes a fault.
pub(super) fn cause(lab: &mut Lab, planned: &Planned, pids: &Pids, held: &mut Held) -> Result<()> {
    let name = planned.service.name;
    let port = lab.services.port(name);
    let pid = || pids.get(name).copied().with_context(|| format!("{name} has no main process"));
    // The fault may cut the answer short.
    let ask = |path: &str| drop(http::get(port, path));
    match planned.fault {
        Fault::Kill | Fault::Burst => send(pid()?, Signal::KILL),
        Fault::Stopped => send(pid()?, Signal::STOP),
        Fault::Reloads => send(pid()?, Signal::HUP),
        Fault::Segfault => ask("/segv"),
        Fault::Abort => ask("/abort"),
        Fault::ExitFailure => ask("/exit?code=3"),
        Fault::ExitSuccess => ask("/exit?code=0"),
        Fault::AnswersErrors => ask("/fail"),
        Fault::Hangs => ask("/hang"),
        Fault::ClosesListener => ask("/close"),
        Fault::Slow => ask(&format!("/slow?ms={SLOW_MS}")),
        Fault::OutOfMemory => {
            let group = MemoryCgroup::new(MEMORY)?;
            group.add(pid()?)?;
            held.groups.push(group);
            ask(&format!("/alloc?mb={TAKEN}"));
        }
        Fault::Frozen => freeze(pid()?, true)?,
        Fault::WorkerKilled => {
            let worker = children(pid()?).first().copied();
            send(worker.with_context(|| format!("{name} has no worker"))?, Signal::KILL);
        }
        Fault::CrashLoop => {
            lab.break_looping(true)?;
            ask("/segv");
        }
        Fault::RemoteDown => lab.take_down(name),
        Fault::OperatorRestarts => lab.order(&["restart", name])?,
        Fault::OperatorStops => lab.order(&["stop", name])?,
    }
    Ok(())
}

/// Waits until hostprobe has found a fault, and undoes what it cannot heal.
pub(super) fn settle(lab: &mut Lab, round: &Round, planned: &Planned, pids: &Pids) -> Result<()> {
    let kind = planned.fault.kind();
    let name = planned.service.name;
    match planned.fault {
        Fault::Slow => {
            lab.wait_for_verdict(name, &[kind.verdicts, &["overloaded"]].concat())?;
            http::get(lab.services.port(name), "/slow?ms=0").context("it answers slowly")?;
        }
        Fault::Frozen => {
            let found = lab.wait_for_verdict(name, kind.verdicts);
            freeze(*pids.get(name).context("a main process")?, false)?;
            found?;
        }
        Fault::RemoteDown => {
            let found = lab.wait_for_verdict(name, &[kind.verdicts, &["network"]].concat());
            lab.bring_up();
            found?;
        }
        Fault::CrashLoop => {
            let found = lab.wait_for_verdict(name, &["crash_loop"]);
            lab.break_looping(false)?;
            lab.order(&["start", name])?;
            found?;
        }
        Fault::Burst => {
            spend_budget(lab, name)?;
            lab.order(&["start", name])?;
        }
        Fault::OperatorStops => lab.order(&["start", name])?,
        Fault::Kill
        | Fault::Segfault
        | Fault::Abort
        | Fault::ExitFailure
        | Fault::ExitSuccess
        | Fault::OutOfMemory
        | Fault::AnswersErrors
        | Fault::Hangs
        | Fault::ClosesListener
        | Fault::Stopped => found(lab, planned)?,
        Fault::WorkerKilled if round.end.is_none() => found(lab, planned)?,
        // What replaces itself while no daemon runs is gone without a trace.
        Fault::WorkerKilled | Fault::OperatorRestarts | Fault::Reloads => {}
    }
    Ok(())
}

/// Waits until an incident of the service opens.
fn found(lab: &Lab, planned: &Planned) -> Result<()> {
    let (name, kind) = (planned.service.name, planned.fault.kind());
    let opened = lab.wait_for(|event| is(event, "incident.open", name), LONG);
    opened.map(drop).with_context(|| format!("{name}: {}: no incident within {LONG:?}", kind.name))
}

/// Waits until hostprobe has found a fault that it heals. While the host is busy, a hang is taken for an overload.
pub(super) fn judged(lab: &Lab, planned: &Planned) -> Result<()> {
    let (name, kind) = (planned.service.name, planned.fault.kind());
    if kind.end != End::Restart {
        return Ok(());
    }
    let is_judged = |event: &serde_json::Value| {
        ["incident.open", "incident.update"].iter().any(|action| is(event, action, name))
            && !LOAD.contains(&text(event, "incident.verdict"))
    };
    let judged = lab.wait_for(is_judged, LONG);
    judged.map(drop).with_context(|| format!("{name}: {}: it counts as busy for {LONG:?}", kind.name))
}

/// Kills a service each time that it serves again, until hostprobe takes it for a crash loop.
fn spend_budget(lab: &Lab, name: &str) -> Result<()> {
    let port = lab.services.port(name);
    let is_spent = || {
        let loops = |event: &serde_json::Value| {
            is(event, "incident.update", name) && text(event, "incident.verdict") == "crash_loop"
        };
        lab.round_events().iter().any(loops)
    };
    let mut deadline = Instant::now() + LONG;
    let mut kills = 1;
    while !is_spent() {
        if Instant::now() > deadline {
            bail!("{name}: no crash loop after {kills} kills");
        }
        // It is gone with its answer.
        if kills < BURST && http::get(port, "/exit?code=3").is_ok() {
            kills += 1;
            deadline = Instant::now() + LONG;
        }
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Freezes or thaws the cgroup of a process.
fn freeze(pid: u32, is_frozen: bool) -> Result<()> {
    let file = cgroup::v2_of(pid).join("cgroup.freeze");
    fs::write(file, if is_frozen { "1" } else { "0" }).context("the cgroup cannot be frozen or thawed")
}

fn send(pid: u32, signal: Signal) {
    // It may have ended meanwhile.
    let _ = Pid::from_raw(pid.cast_signed()).map(|pid| kill_process(pid, signal));
}
