//! Whether to restart, when, and what became of it.

use std::time::Duration;

use super::{Fault, Finding, Remedy, Service, Step};
use crate::{
    clock::Timestamp,
    engine::{Effect, Outbox, Turn, budget::describe},
    fact::{Action, Fact, Phase, Restart, RestartMethod, Verdict},
};

/// The most starts that are remembered, to stay below a unit's StartLimit.
const MAX_STARTS: usize = 64;

/// Every way to restart answers sooner than this.
const ANSWER: Duration = Duration::from_secs(120);

/// A snapshot is written down sooner than this, or not at all.
const SNAPSHOT: Duration = Duration::from_secs(4);

impl Service {
    /// The restart that was asked for was carried out, or was not.
    pub(in crate::engine) fn restarted<O: Outbox>(
        &mut self,
        outcome: Result<(), String>,
        turn: &mut Turn<'_, O>,
    ) {
        let action = match &outcome {
            Ok(()) => Action::Done,
            Err(error) => Action::Fail(error.clone()),
        };
        // A first start is no restart; what fails of it is told by the incident that it opens.
        if self.incident.is_some() {
            self.say_restart(action, turn);
        }
        // One that comes late is about a restart that something else has overtaken.
        let first_start = self.incident.is_none() && outcome.is_err();
        if !matches!(self.step, Step::Restarting { .. }) && !first_start {
            return;
        }
        match outcome {
            Ok(()) if self.is_matched && (!self.probes.is_empty() || self.main.is_some()) => {
                // The command may heal the process there is, or one that cannot be found: its probes will say.
                self.step = Step::Verify;
                turn.act(Effect::ProbeUntilWell(self.id));
            }
            Ok(()) => {
                let patience = self.policy.grace.max(Duration::from_secs(5));
                self.step = Step::Restarting { until: turn.now.plus(patience), confirmed: true };
                if self.is_unit {
                    turn.act(Effect::InspectUnit(self.id));
                }
            }
            Err(error) if self.is_unit => {
                // systemd may have been told otherwise meanwhile.
                let summary = format!("it could not be restarted: {error}");
                let finding = Finding { verdict: Verdict::Exited, confidence: 1.0, summary };
                self.inspect(Fault::now(turn.now, finding), None, turn);
            }
            Err(error) => {
                let finding = Finding {
                    verdict: Verdict::Exited,
                    confidence: 1.0,
                    summary: format!("it could not be started: {error}"),
                };
                let fault = Fault::now(turn.now, finding);
                self.step = Step::Idle;
                self.fail(fault, turn);
            }
        }
    }

    /// Decides what to do about the open incident.
    pub(super) fn decide<O: Outbox>(&mut self, remedy: Remedy, turn: &mut Turn<'_, O>) {
        let Some(open) = &self.incident else { return };
        if open.incident.verdict == Verdict::Stopped || self.is_remote {
            self.step = Step::Idle;
            return;
        }
        let attempt = open.incident.attempts + 1;
        let wants_snapshot = open.is_hang() && open.incident.snapshot.is_none() && self.main.is_some();
        self.beyond_restart = remedy != Remedy::Restart;
        match remedy {
            Remedy::Nothing => {
                self.step = Step::Idle;
                return;
            }
            Remedy::Hold(why) if self.policy.enabled || self.incident_has_other_cause() => {
                return self.hold(&why, turn);
            }
            Remedy::Hold(_) | Remedy::Restart => {}
        }
        if wants_snapshot {
            turn.act(Effect::Snapshot(self.id));
        }
        if self.observed {
            return self.hold("the daemon only observes (--observe)", turn);
        }
        if !self.policy.enabled || self.method == RestartMethod::None {
            return self.hold("restarts are not enabled for this service", turn);
        }
        if self.budget.left(turn.now) == 0 {
            return self.give_up(turn);
        }
        let mut wait = self.budget.backoff(attempt);
        if self.port_taken {
            wait = wait.max(self.policy.backoff_first);
        }
        if wait.is_zero() && wants_snapshot {
            self.step = Step::Snapshot { until: turn.now.plus(SNAPSHOT) };
        } else if wait.is_zero() {
            self.restart(turn);
        } else {
            let why = format!("back-off of {} before attempt {attempt}", describe(wait));
            self.say_restart(Action::Hold(why), turn);
            self.step = Step::Backoff { until: turn.now.plus(wait) };
        }
    }

    /// Whether the open incident is only the consequence of another service's.
    fn incident_has_other_cause(&self) -> bool {
        self.incident.as_ref().is_some_and(|open| open.incident.cause != self.id)
    }

    /// What could be seen of its processes is written down, or cannot be: now they may be ended.
    pub(super) fn snapshot_taken<O: Outbox>(
        &mut self,
        outcome: Result<String, String>,
        turn: &mut Turn<'_, O>,
    ) {
        if let Some(open) = &mut self.incident {
            match outcome {
                Ok(file) => open.incident.snapshot = Some(file),
                Err(why) => {
                    open.incident.summary.push_str(&format!("; no snapshot could be taken: {why}"));
                }
            }
            turn.emit(Fact::Incident(Phase::Update, open.incident.clone()));
        }
        if matches!(self.step, Step::Snapshot { .. }) {
            self.step = Step::Idle;
            if self.incident.is_some() {
                self.retry(turn);
            }
        }
    }

    /// Holds the restart on purpose; the incident stays open until the service is well again.
    pub(super) fn hold<O: Outbox>(&mut self, why: &str, turn: &mut Turn<'_, O>) {
        self.step = Step::Idle;
        self.say_restart(Action::Hold(why.to_owned()), turn);
    }

    /// The budget is spent: stop trying for long.
    pub(super) fn give_up<O: Outbox>(&mut self, turn: &mut Turn<'_, O>) {
        let wait = self.budget.long_backoff();
        let next = describe(wait);
        let why =
            format!("its budget of {} restarts is spent; the next try is in {next}", self.budget.describe());
        self.loops(&why, turn);
        self.say_restart(Action::Hold(why), turn);
        if self.unit.as_ref().is_some_and(|unit| unit.active == "failed") {
            self.was_reset = true;
            turn.act(Effect::ResetFailed(self.id));
        }
        self.step = Step::GivenUp { until: turn.now.plus(wait) };
    }

    pub(super) fn restart<O: Outbox>(&mut self, turn: &mut Turn<'_, O>) {
        self.budget.spend(turn.now);
        if let Some(open) = &mut self.incident {
            open.acted(turn.now);
        }
        let reset_failed = self.start_limit_is_near(turn.now);
        self.needs_reset = false;
        self.count_start(turn.now);
        turn.act(Effect::Restart { service: self.id, method: self.method, reset_failed });
        self.say_restart(Action::Request, turn);
        // Alive or not, what its probes found before is past.
        self.begin_anew(turn.now);
        self.step = Step::Restarting { until: turn.now.plus(ANSWER), confirmed: false };
    }

    pub(super) fn say_restart<O: Outbox>(&mut self, action: Action, turn: &mut Turn<'_, O>) {
        let incident = self.incident.as_ref().map(|open| &open.incident);
        let restart = Restart {
            service: self.id,
            incident: incident.map(|incident| incident.id),
            method: self.method,
            attempt: incident.map_or(0, |incident| match action {
                Action::Hold(_) => incident.attempts + 1,
                Action::Request | Action::Done | Action::Fail(_) => incident.attempts,
            }),
            reason: incident.map_or_else(|| "first start".to_owned(), |incident| incident.summary.clone()),
            budget_left: self.budget.left(turn.now),
            action,
        };
        turn.emit(Fact::Restart(restart));
    }

    pub(super) fn count_start(&mut self, now: Timestamp) {
        self.starts.push_back(now);
        if self.starts.len() > MAX_STARTS {
            self.starts.pop_front();
        }
    }
}
