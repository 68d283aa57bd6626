//! Judges a unit's state after the death of its main process: who acts next.
//!
//! The order decides. systemd takes a unit out of the active state *before* it kills the main process of a unit
//! that is to stop, and *after* it has noticed a process that died by itself. One thread of systemd takes both
//! times, 0.1 ms apart or more. So this holds even where a SIGKILL by a stop job and the kernel's time of the death
//! would leave it open.

pub mod meaning;

use std::{borrow::Cow, time::Duration};

use meaning::{Known, Meaning, Row, failed_by_systemd};

use crate::{
    clock::Timestamp,
    fact::{ContainerState, ProcessKey, UnitState},
};

/// systemd's time for a restart without a delay. Measured: 1.4 to 4 ms from the death to the new process with
/// `RestartSec=0`. With any other delay its timer has slack by design (measured: 10 ms took 25 to 38, 100 ms took
/// 158 to 166; it may add 250), while RestartUnit takes 2 ms.
const AT_ONCE: Duration = Duration::from_millis(50);

/// A restart closer than this to systemd's own could end the process that systemd has just started.
const TOO_CLOSE: Duration = Duration::from_millis(20);

/// What to do after the main process of a unit died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitJudgement {
    /// systemd has not noticed the death yet: read the state again in 1 or 2 ms. An idle systemd needs 0.2 to 0.6
    /// ms, and may answer an early read before that.
    Stale,
    /// The operator stops or restarts it: nothing to do. With the evidence.
    StopRequested(Cow<'static, str>),
    /// It runs again: only verify that it works.
    AlreadyRestarted {
        /// By a requested job, as of `systemctl restart`. systemd counts its restarts by `Restart=`, and a
        /// requested one sets the count to 0.
        asked: bool,
    },
    /// It runs without that process: another one is its main process.
    StillRuns,
    /// It ended as it should, or is not to run now.
    Rests(&'static Row),
    /// systemd is starting it: judge again if it does not run after this long.
    RestartsItself(Duration),
    /// It is down or waits out its `RestartSec=`: RestartUnit starts it now.
    Restart {
        /// systemd restarts it no more: it failed in spite of its `Restart=`, because of too many starts
        /// (`StartLimitBurst=`) or a result that `Restart=` does not cover. Reset it first, because while the limit
        /// holds systemd accepts RestartUnit and the job then fails.
        gave_up: bool,
        /// systemd itself would start it only after this time.
        waits: Option<Duration>,
    },
    /// The unit cannot be started: not-found, masked, bad-setting, error.
    NotLoaded(String),
}

/// Judges a unit's `state`, read after its process `died` at `died_at`. `before` is the invocation id the
/// unit had while the process lived, if it is known.
pub fn judge(
    state: &UnitState,
    died: &ProcessKey,
    died_at: Timestamp,
    before: Option<&str>,
) -> UnitJudgement {
    use UnitJudgement::{
        AlreadyRestarted, NotLoaded, Restart, RestartsItself, Rests, Stale, StillRuns, StopRequested,
    };

    let up = matches!(state.active.as_str(), "active" | "activating" | "reloading" | "refreshing");
    let auto_restart = state.sub.starts_with("auto-restart");
    let stopped_first = state.left_first() && !failed_by_systemd(state);
    match state.job.as_ref().map(|job| job.kind.as_str()) {
        Some("stop") => return StopRequested("a stop job is under way".into()),
        // The job is read just after the state, and a restart job continues as a start job. systemd's own restarts
        // have jobs too, but only in the state auto-restart.
        Some("start" | "restart" | "try-restart")
            if !auto_restart && state.active != "activating" && !ends_a_failed_start(state) =>
        {
            return if stopped_first || !matches!(state.active.as_str(), "inactive" | "failed") {
                StopRequested("a restart job is under way".into())
            } else {
                RestartsItself(AT_ONCE)
            };
        }
        _ => {}
    }

    // Another container of the same name was made on request.
    let asked = state.restarts == 0 || state.container.is_some() && is_recreated(before, state);
    let restarted = state.main_started.is_some_and(|started| started >= died_at)
        || before.is_some_and(|before| !before.is_empty() && before != state.invocation_id);
    if let Some(main) = &state.main
        && main != died
    {
        // The next command of a oneshot unit belongs to the same run.
        let next_command = state.active == "activating" && before == Some(state.invocation_id.as_str());
        return if restarted && !next_command { AlreadyRestarted { asked } } else { StillRuns };
    }
    if up && !auto_restart && restarted {
        return AlreadyRestarted { asked };
    }
    // systemd still reports it as the main process.
    if state.main_pid != 0 {
        return Stale;
    }

    if state.load != "loaded" && !stopped_first {
        return NotLoaded(state.load.clone());
    }
    if auto_restart && state.container.is_some() {
        // An engine's own restart and one on request would be two.
        return RestartsItself(state.restart_delay);
    }
    if auto_restart {
        let waited = state.changed.map(|changed| state.at.since(changed)).unwrap_or_default();
        let left = state.restart_delay.saturating_sub(waited);
        // A start job waits for the delay too; a restart job does not.
        let queued =
            state.sub == "auto-restart-queued" || state.job.as_ref().is_some_and(|job| job.kind == "restart");
        return if queued || left < TOO_CLOSE {
            RestartsItself(AT_ONCE)
        } else {
            Restart { gave_up: false, waits: Some(left) }
        };
    }
    if stopped_first {
        return match &state.container {
            Some(container) => StopRequested(requested(container).into()),
            None => StopRequested("systemd was already stopping it when it died".into()),
        };
    }
    match (state.active.as_str(), state.sub.as_str()) {
        ("active", sub) if sub != "exited" => StillRuns,
        // Its work is done, and an ExecStartPost= runs.
        ("activating", _) if state.result == "success" && meaning::is_oneshot(state) => StillRuns,
        // It ends what is left of the unit first. If it then starts nothing, the engine does.
        ("deactivating", _) if state.restarts_itself && state.restart_delay < TOO_CLOSE => {
            RestartsItself(AT_ONCE)
        }
        // Unless it is the same run, which ended while it was starting.
        ("activating", _) if before.is_none() || state.main_exited.is_none() => RestartsItself(AT_ONCE),
        // A unit that ends with an error is failed, unless it is stopped while it waits for its restart.
        ("inactive", _) if meaning::was_asked(state) => {
            StopRequested("it was stopped while it waited to be restarted".into())
        }
        // systemd forgets stopped units that no client keeps.
        ("inactive", _) if state.main_exited.is_none() && state.invocation_id.is_empty() => {
            StopRequested("it exited with success or was stopped; systemd has forgotten which".into())
        }
        (active, _) => {
            let row = meaning::of_end(state, Known { taken_down: false, main_ran: true });
            match row.meaning {
                Meaning::Done | Meaning::Stopped => Rests(row),
                Meaning::Runs | Meaning::Starting | Meaning::Waits | Meaning::Fault(..) => {
                    Restart { gave_up: active == "failed" && state.restarts_itself, waits: None }
                }
            }
        }
    }
}

/// What ended a container on request, in words.
fn requested(container: &ContainerState) -> String {
    let engine = container.engine.name();
    container.request.clone().unwrap_or_else(|| format!("{engine} was already stopping it when it died"))
}

/// Whether the container of an earlier run is gone. A run is named by the container's id and its start.
fn is_recreated(before: Option<&str>, state: &UnitState) -> bool {
    let id = |run: &str| run.split('@').next().map(str::to_owned).filter(|id| !id.is_empty());
    let (before, now) = (before.and_then(id), id(&state.invocation_id));
    before.is_some() && now.is_some() && before != now
}

/// Whether systemd ends what is left of a start that failed. The start's own job is still there for a moment.
fn ends_a_failed_start(state: &UnitState) -> bool {
    state.active == "deactivating" && failed_by_systemd(state)
}

#[cfg(test)]
mod tests;
