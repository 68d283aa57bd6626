//! What a unit's state means for a fault: is it ours to act on?

use std::time::Duration;

use crate::{
    clock::Timestamp,
    fact::{ProcessExit, ProcessKey, Sender, UnitState},
};

/// A restart of systemd's own that comes within this time is left to it.
const LEAVE_TO_SYSTEMD: Duration = Duration::from_millis(50);

/// What is known of a fault before systemd is asked.
#[derive(Clone, Copy, Debug)]
pub struct Fault<'a> {
    /// When it happened.
    pub at: Timestamp,
    /// The main process that died of it, and how, if one did.
    pub exit: Option<&'a ProcessExit>,
    /// The main process that lives, if it does.
    pub alive: Option<ProcessKey>,
}

/// What a unit's state means for a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// systemd has not taken note of the death yet; it will in a moment.
    Stale,
    /// Somebody asked for a stop or a restart: nothing failed.
    StopRequested(String),
    /// Another main process runs already.
    AlreadyRestarted,
    /// systemd is about to restart it, this long after the death.
    RestartsItself(Duration),
    /// Nobody else will act soon.
    Ours,
}

/// Judges a fault by the state its unit is in, read at `now`.
pub fn judge(state: &UnitState, fault: &Fault<'_>, now: Timestamp) -> Judgement {
    let died = fault.exit.map(|exit| exit.process.key);
    if let Some(job) = &state.job
        && matches!(job.kind.as_str(), "stop" | "restart" | "try-restart")
    {
        return Judgement::StopRequested(format!("systemd carries out a {} job", job.kind));
    }
    if died.is_some() && state.main == died && matches!(state.active.as_str(), "active" | "reloading") {
        return Judgement::Stale;
    }
    if let Some(exit) = fault.exit {
        if stopped_by_manager(state, exit) {
            return Judgement::StopRequested("systemd itself stopped it".to_owned());
        }
        // A unit that is asked to stop leaves the active state first and loses its main process then.
        let left = state.active_exit.filter(|&left| left > exit.process.key.start);
        if left.is_some_and(|left| left < exit.at) {
            return Judgement::StopRequested(
                "it left the active state before its main process ended".to_owned(),
            );
        }
    } else if state.active == "deactivating" {
        return Judgement::StopRequested("systemd is stopping it".to_owned());
    }
    if state.main.is_some() && state.main != died && state.main != fault.alive {
        return Judgement::AlreadyRestarted;
    }
    if died.is_some() || fault.alive.is_none() {
        let waited = now.since(fault.at);
        let to_restart = match (state.active.as_str(), state.sub.as_str()) {
            ("activating", "auto-restart") | ("deactivating", _) => {
                state.restarts_itself && state.restart_delay < waited.saturating_add(LEAVE_TO_SYSTEMD)
            }
            ("activating", _) => true,
            _ => false,
        };
        if to_restart {
            return Judgement::RestartsItself(state.restart_delay);
        }
    }
    Judgement::Ours
}

/// A fatal signal from the manager itself is a stop, unless it punishes a missed watchdog or time-out.
fn stopped_by_manager(state: &UnitState, exit: &ProcessExit) -> bool {
    let by_manager = matches!(&exit.sender, Some(Sender::Process { pid, .. }) if *pid == state.manager_pid);
    by_manager && !matches!(state.result.as_str(), "watchdog" | "timeout")
}
