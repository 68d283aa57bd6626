//! What stands in for the hooks where none is attached.

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
    process::Doer,
    report::{self, Outcome},
};

/// Longest wait for something to be seen. An emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// A check without the loaded programs.
type Check = (&'static str, fn() -> Result<Outcome>);

const CHECKS: &[Check] =
    &[("no hook: how processes end", ends), ("no hook: OOM kill of a memory cgroup", oom_kill)];

/// Tells of each. Meant to be called in the initial network namespace, the only one that the process connector serves.
pub fn tell() {
    for (name, check) in CHECKS {
        report::tell(name, &check());
    }
}

fn ends() -> Result<Outcome> {
    let kill = |doer: &mut Doer| {
        // It is there: it was watched.
        let _ = doer.signal(Signal::KILL);
    };
    let deeds: [&[&str]; 4] = [&["exit", "7"], &["segv"], &["thread-segv"], &["leader-exits", "9"]];
    for deed in deeds {
        let (mut doer, death, _) = watched(|| Doer::start(deed), Doer::go)?;
        told(&death, &mut doer, deed[0])?;
    }
    let (mut doer, death, _) = watched(|| Doer::start(&["exit", "0"]), kill)?;
    told(&death, &mut doer, "SIGKILL")?;
    Ok(Outcome::Kept("status as wait(2) says, by the process connector".to_owned()))
}

fn told(death: &Death, doer: &mut Doer, what: &str) -> Result<()> {
    let waited = ExitStatus::from_wait_status(doer.wait()?);
    ensure!(death.status == waited, "{what}: told {}, wait(2) says {waited}", death.status);
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
    let (mut hog, death, before) = watched(hog, Doer::go)?;
    told(&death, &mut hog, "allocate")?;
    ensure!(death.oom, "the counter of its cgroup has not risen: {death:?}");
    let pid = hog.pid();
    let of_hog = |seen: &Sighting| matches!(seen, Sighting::Oom(line) if line.pid == pid);
    let Some(Sighting::Oom(line)) = before.into_iter().find(of_hog) else {
        bail!("the kernel's log has not told before its end")
    };
    ensure!(line.scope == OomScope::Memcg && line.name == "allocate", "{line:?}");
    ensure!(i32::from(line.score_adj) == oom::SCORE, "{line:?}");
    let [anon, ..] = line.resident;
    ensure!((oom::LIMIT / 2..oom::LIMIT * 2).contains(&anon), "{anon} bytes of {}", oom::LIMIT);
    ensure!(line.limited.as_deref() == Some(cgroup.path().as_str()), "{line:?}, not {}", cgroup.path());
    Ok(Outcome::Kept("victim, scope and numbers by the log, the kill by its counter".to_owned()))
}

/// A process, its end after something was done to it, and what else was seen before. Tried again where something was
/// lost: others may flood the connector, and that is said.
fn watched(
    start: impl Fn() -> Result<Doer>,
    act: impl Fn(&mut Doer),
) -> Result<(Doer, Death, Vec<Sighting>)> {
    let reader = ProcReader::new("/")?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    for _ in 0..TRIES {
        let mut doer = start()?;
        let mut stand_ins = StandIns::open(&Hook::ALL, &reader, u32::MAX)?;
        stand_ins.watch_process(reader.key_of(doer.pid()).context("it lives")?);
        act(&mut doer);
        let (mut seen, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        let death = loop {
            ensure!(Instant::now() < deadline, "its end was not seen; {:?}", stand_ins.told());
            stand_ins.drain(&mut seen);
            let its = |it: &Sighting| matches!(it, Sighting::Death(death) if death.pid == doer.pid());
            if let Some(at) = seen.iter().position(its)
                && let Sighting::Death(death) = seen.swap_remove(at)
            {
                break death;
            }
            let _ = runtime.block_on(async { tokio::time::timeout(PATIENCE, stand_ins.readable()).await });
        };
        if stand_ins.losses().iter().all(|loss| loss.class != "exit_connector") {
            return Ok((doer, death, seen));
        }
    }
    bail!("something was lost each time")
}
