//! A check of the user's: a program that ends with the exit code of a Nagios plugin.
//!
//! It runs as a command under `exec` does: no shell, no descriptor of the daemon's, a clean environment. Where cgroups can be
//! written it has one, and nothing that it starts outlives its run.

mod output;
mod running;

#[cfg(fuzzing)]
pub use self::output::first_line;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::Semaphore};

use self::{
    output::Output,
    running::{Running, start},
};
use super::{
    failure::{Failure, kind_without},
    progress::Waiting,
};
use crate::{
    bounded_thread::Threads,
    config::Probe,
    fact::{ProbeFailure, ProbeOutcome, ProcessKey},
    host::{Cgroups, OwnCgroup},
    spawn::RunCgroup,
};

/// How long a start may take until exec: the file system of the program may not answer.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The programs that run at the same time, of all probes: each may take a whole CPU.
const AT_ONCE: usize = 16;

/// What a run waits for before its program starts.
const TURN: &str = "its turn, because too many checks run at the same time";

const EARLIER: &str = "its earlier run, which was killed and does not end";

/// What all probes under `exec` share.
#[derive(Debug)]
pub struct Programs {
    cgroups: Option<(Cgroups, ProcessKey)>,
    number: AtomicU64,
    turns: Semaphore,
    starts: Threads,
}

impl Programs {
    /// Programs that run in cgroups of the daemon with this key, or without one.
    pub fn new(cgroups: Option<(Cgroups, ProcessKey)>) -> Self {
        let turns = Semaphore::new(AT_ONCE);
        Self { cgroups, number: AtomicU64::new(0), turns, starts: Threads::new("check") }
    }

    /// A cgroup; none where the v2 hierarchy is not writable.
    fn cgroup(&self) -> Option<OwnCgroup> {
        let (cgroups, owner) = self.cgroups.as_ref()?;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        cgroups.create_for(*owner, &format!("{}{number}", OwnCgroup::OF_CHECKS)).ok()
    }
}

/// What a probe keeps from one run to the next.
#[derive(Debug)]
pub struct Kept {
    /// To make and to remove one costs more than most checks do.
    cgroup: Option<RunCgroup>,
    /// A run has it until its process is gone, also if the start hangs, or the process does not end when it is killed.
    alone: Arc<Semaphore>,
}

impl Default for Kept {
    fn default() -> Self {
        Self { cgroup: None, alone: Arc::new(Semaphore::new(1)) }
    }
}

/// Runs the program to its end.
pub(super) async fn run(
    probe: &Probe,
    programs: &Arc<Programs>,
    kept: &mut Kept,
    waiting: &Waiting,
) -> Result<ProbeOutcome, Failure> {
    let Some(exec) = probe.exec.clone() else {
        return Err(Failure::new(ProbeFailure::CannotAsk, "the probe has no command"));
    };
    // The semaphores are never closed.
    waiting.set(EARLIER);
    let alone = Arc::clone(&kept.alone).acquire_owned().await.ok();
    waiting.set(TURN);
    let _turn = programs.turns.acquire().await.ok();
    waiting.set("the check to end");
    let name = program(probe).display().to_string();
    let cannot = |kind, why: String| Failure::new(kind, format!("{name}: cannot be started: {why}"));
    let (runtime, shared, cgroup) = (Handle::current(), Arc::clone(programs), kept.cgroup.take());
    let work = move || {
        let _entered = runtime.enter();
        let cgroup = cgroup.or_else(|| shared.cgroup().map(RunCgroup::new));
        start(&exec, cgroup, alone)
    };
    let started = programs.starts.answer(START_TIMEOUT, work).await;
    let started = started.map_err(|error| cannot(kind_without(&error), error.to_string()))?;
    let mut running: Running = started.map_err(|error| {
        let kind = if error.shortage().is_some() { ProbeFailure::Local } else { ProbeFailure::CannotAsk };
        cannot(kind, error.to_string())
    })?;
    let ended = running.end().await;
    kept.cgroup = running.into_cgroup();
    let (status, output) = ended.map_err(|error| {
        let is_endless = error.kind() == io::ErrorKind::InvalidData;
        let kind = if is_endless { ProbeFailure::PluginUnknown } else { ProbeFailure::Local };
        Failure::new(kind, format!("{name}: {error}"))
    })?;
    outcome(&name, status, &output)
}

/// The failure of a run that was over its time. One that did not have its turn says nothing of the service or the program.
pub(super) fn late(probe: &Probe, waits_for: &'static str) -> ProbeOutcome {
    let Probe { target, timeout, .. } = probe;
    if waits_for == TURN {
        let text = format!("{target} was not started within {timeout:?}: still waiting for {TURN}");
        return ProbeOutcome::Failed(ProbeFailure::Local, text);
    }
    let text = match waits_for {
        EARLIER => format!("{target} was not started within {timeout:?}: still waiting for {EARLIER}"),
        _ => format!("{target} did not end within {timeout:?}, and was killed"),
    };
    ProbeOutcome::Failed(ProbeFailure::PluginTimeout, text)
}

/// The program of a probe.
pub(super) fn program(probe: &Probe) -> PathBuf {
    let word = probe.exec.as_ref().and_then(|exec| exec.command.first());
    word.map(PathBuf::from).unwrap_or_default()
}

/// What the wait status (`wait(2)`) of a plugin says. The Nagios plugin API has four exit codes; any other is no answer.
fn outcome(name: &str, status: u32, output: &Output) -> Result<ProbeOutcome, Failure> {
    let said = output.first_line();
    let said = if said.is_empty() { "it wrote nothing".to_owned() } else { said };
    let (kind, end) = match (status & 0x7f, status >> 8 & 0xff) {
        (0, 0) => return Ok(ProbeOutcome::Ok),
        (0, 1) => (ProbeFailure::PluginWarning, "reports WARNING".to_owned()),
        (0, 2) => (ProbeFailure::PluginCritical, "reports CRITICAL".to_owned()),
        (0, 3) => (ProbeFailure::PluginUnknown, "reports UNKNOWN".to_owned()),
        (0, code) => (ProbeFailure::PluginUnknown, format!("exited with {code}, which no plugin does")),
        (signal, _) => (ProbeFailure::PluginUnknown, format!("was ended by signal {signal}")),
    };
    Err(Failure::new(kind, format!("{name} {end}: {said}")))
}

#[cfg(test)]
mod tests;
