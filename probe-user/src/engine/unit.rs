//! What a unit's state says about the death of its main process, and whose turn it is.
//!
//! Which came first decides: systemd takes a unit out of the active state *before* it kills the main process
//! of a unit that shall stop, and *after* it has noticed one that died by itself. Both moments are taken by
//! the one thread of systemd, 0.1 ms apart or more, so this holds even where a SIGKILL by a stop job and the
//! kernel's own time of the death would leave it open.

use std::time::Duration;

use crate::{
    clock::Timestamp,
    fact::{ProcessKey, UnitState},
};

/// How long systemd has for a restart that needs no waiting; seen: 1.4 to 4 ms from the death to the new
/// process with `RestartSec=0`. With any other delay its timer is slack by design (seen: 10 ms took 25 to
/// 38, 100 ms took 158 to 166; it may add 250), while RestartUnit takes 2 ms.
const AT_ONCE: Duration = Duration::from_millis(50);

/// A restart of ours that comes closer than this to systemd's own could end the process systemd has just
/// started.
const TOO_CLOSE: Duration = Duration::from_millis(20);

/// Whose turn it is after the main process of a unit died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitJudgement {
    /// systemd does not know of the death yet: read the state again in 1 or 2 ms. It takes 0.2 to 0.6 ms to
    /// notice on an idle machine, and a question that comes earlier is answered earlier.
    Stale,
    /// Somebody wanted it down or is restarting it: nothing to do. Says how that is known.
    StopRequested(&'static str),
    /// It already runs anew: nothing to do but verify that it works.
    AlreadyRestarted {
        /// By a job somebody asked for, which tells `systemctl restart` from a crash: systemd counts the
        /// restarts it makes by `Restart=`, and sets the count to 0 when asked for one.
        asked: bool,
    },
    /// It runs on without that process: another one is its main process now, or always was.
    StillRuns,
    /// systemd starts it right now: if it does not run after this long, judge again.
    RestartsItself(Duration),
    /// It is down, or waits out its own `RestartSec=`: RestartUnit brings it back now.
    Ours {
        /// systemd has given up on it: it is failed in spite of its `Restart=`, because of too many starts
        /// (`StartLimitBurst=`) or for a result that setting does not cover. Reset it first: while the limit
        /// holds, RestartUnit is accepted, and the job then fails.
        gave_up: bool,
        /// systemd itself would start it only after this long.
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
    use UnitJudgement::{AlreadyRestarted, NotLoaded, Ours, RestartsItself, Stale, StillRuns, StopRequested};

    if state.load != "loaded" {
        return NotLoaded(state.load.clone());
    }
    let up = matches!(state.active.as_str(), "active" | "activating" | "reloading" | "refreshing");
    let auto_restart = state.sub.starts_with("auto-restart");
    let stopped_first = match (state.main_started, state.active_exit, state.main_exited) {
        (Some(started), Some(left), Some(exited)) => {
            started < left && left < exited && !failed_by_systemd(&state.result)
        }
        _ => false,
    };
    match state.job.as_ref().map(|job| job.kind.as_str()) {
        Some("stop") => return StopRequested("a stop job is under way"),
        // A job's kind is read a moment after the state, and a restart job goes on as a start job. systemd's
        // own restarts have jobs as well, but only once the unit is in the state auto-restart.
        Some("start" | "restart" | "try-restart") if !auto_restart && state.active != "activating" => {
            return if stopped_first || !matches!(state.active.as_str(), "inactive" | "failed") {
                StopRequested("a restart job is under way")
            } else {
                RestartsItself(AT_ONCE)
            };
        }
        _ => {}
    }

    let asked = state.restarts == 0;
    let anew = state.main_started.is_some_and(|started| started >= died_at)
        || before.is_some_and(|before| !before.is_empty() && before != state.invocation_id);
    if let Some(main) = &state.main
        && main != died
    {
        return if anew { AlreadyRestarted { asked } } else { StillRuns };
    }
    if up && !auto_restart && anew {
        return AlreadyRestarted { asked };
    }
    // systemd still names it as the unit's main process.
    if state.main_pid != 0 {
        return Stale;
    }

    if auto_restart {
        let waited = state.changed.map(|changed| state.at.since(changed)).unwrap_or_default();
        let left = state.restart_delay.saturating_sub(waited);
        // A job that starts from here waits as well, unless it is a restart.
        let queued =
            state.sub == "auto-restart-queued" || state.job.as_ref().is_some_and(|job| job.kind == "restart");
        return if queued || left < TOO_CLOSE {
            RestartsItself(AT_ONCE)
        } else {
            Ours { gave_up: false, waits: Some(left) }
        };
    }
    if stopped_first {
        return StopRequested("systemd was already stopping it when it died");
    }
    match (state.active.as_str(), state.sub.as_str()) {
        ("active", sub) if sub != "exited" => StillRuns,
        // Unless it is known to be still the same run, which ended while it was starting.
        ("activating", _) if before.is_none() || state.main_exited.is_none() => RestartsItself(AT_ONCE),
        // A unit that ends badly is failed. Not so if it is stopped while it waits for its restart.
        ("inactive", _) if state.result != "success" => {
            StopRequested("it was stopped while it waited to be restarted")
        }
        // systemd forgets units that are down and that nobody has asked it to keep.
        ("inactive", _) if state.main_exited.is_none() && state.invocation_id.is_empty() => {
            StopRequested("it ended well, by systemd's word, or was stopped: which, systemd has forgotten")
        }
        (active, _) => Ours { gave_up: active == "failed" && state.restarts_itself, waits: None },
    }
}

/// Results for which systemd stops a unit that nobody asked it to stop. (It does so for `RuntimeMaxSec=` too;
/// that is a wish of the unit's author, and `timeout`, its result, is that of a slow stop as well.)
pub fn failed_by_systemd(result: &str) -> bool {
    matches!(result, "watchdog" | "oom-kill" | "protocol" | "resources" | "start-limit-hit")
}

#[cfg(test)]
mod tests;
