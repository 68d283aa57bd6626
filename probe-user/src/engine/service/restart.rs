//! Whether to restart, when, and what became of it.

use std::time::Duration;

use super::{Fault, Finding, RecoveryState, Remedy, Service};
use crate::{
    clock::Timestamp,
    engine::{
        budget::describe,
        ctx::Ctx,
        effect::{Effect, Effects},
        rules::{DefaultAction, Extra},
    },
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
    pub(in crate::engine) fn restarted<E: Effects>(
        &mut self,
        outcome: Result<(), String>,
        ctx: &mut Ctx<'_, E>,
    ) {
        let action = match &outcome {
            Ok(()) => Action::Done,
            Err(error) => Action::Fail(error.clone()),
        };
        // A first start is no restart; what fails of it is told by the incident that it opens.
        if self.incident.is_some() {
            self.say_restart(action, ctx);
        }
        // One that comes late is about a restart that something else has overtaken.
        let first_start = self.incident.is_none() && outcome.is_err();
        if !matches!(self.recovery, RecoveryState::Restarting { .. }) && !first_start {
            return;
        }
        match outcome {
            Ok(()) if self.is_matched && (!self.probes.is_empty() || self.main.is_some()) => {
                // The command may heal the process there is, or one that cannot be found: its probes will say.
                self.recovery = RecoveryState::Verifying;
                ctx.request(Effect::ProbeUntilHealthy(self.id));
            }
            Ok(()) => {
                let patience = self.policy.grace.max(Duration::from_secs(5));
                self.recovery = RecoveryState::Restarting { until: ctx.now.plus(patience), confirmed: true };
                if self.is_unit {
                    ctx.request(Effect::InspectUnit(self.id));
                }
            }
            Err(error) if self.is_unit => {
                // systemd may have been told otherwise meanwhile.
                let summary = format!("it could not be restarted: {error}");
                let finding = Finding { verdict: Verdict::Exited, confidence: 1.0, summary };
                self.inspect(Fault::now(ctx.now, finding), None, ctx);
            }
            Err(error) => {
                let finding = Finding {
                    verdict: Verdict::Exited,
                    confidence: 1.0,
                    summary: format!("it could not be started: {error}"),
                };
                let fault = Fault::now(ctx.now, finding);
                self.recovery = RecoveryState::Idle;
                self.fail(fault, ctx);
            }
        }
    }

    /// Decides what to do about the open incident.
    pub(super) fn decide<E: Effects>(&mut self, remedy: Remedy, ctx: &mut Ctx<'_, E>) {
        let Some(open) = &self.incident else { return };
        if open.rule().action == DefaultAction::Nothing || self.is_remote {
            self.recovery = RecoveryState::Idle;
            return;
        }
        let attempt = open.incident.attempts + 1;
        let wants_snapshot =
            open.rule().extra == Extra::Snapshot && open.incident.snapshot.is_none() && self.main.is_some();
        self.beyond_restart = remedy != Remedy::Restart;
        match remedy {
            Remedy::Nothing => {
                self.recovery = RecoveryState::Idle;
                return;
            }
            Remedy::Hold(why) if self.policy.enabled || self.incident_has_other_cause() => {
                return self.hold(&why, ctx);
            }
            Remedy::Hold(_) | Remedy::Restart => {}
        }
        if wants_snapshot {
            ctx.request(Effect::Snapshot(self.id));
        }
        if self.observed {
            return self.hold("the daemon only observes (--observe)", ctx);
        }
        if !self.policy.enabled || self.method == RestartMethod::None {
            return self.hold("restarts are not enabled for this service", ctx);
        }
        if self.budget.left(ctx.now) == 0 {
            return self.give_up(ctx);
        }
        let mut wait = self.budget.backoff(attempt);
        if self.port_taken {
            wait = wait.max(self.policy.backoff_first);
        }
        if wait.is_zero() && wants_snapshot {
            self.recovery = RecoveryState::Snapshotting { until: ctx.now.plus(SNAPSHOT) };
        } else if wait.is_zero() {
            self.restart(ctx);
        } else {
            let why = format!("back-off of {} before attempt {attempt}", describe(wait));
            self.say_restart(Action::Hold(why), ctx);
            self.recovery = RecoveryState::Backoff { until: ctx.now.plus(wait) };
        }
    }

    /// Whether the open incident is only the consequence of another service's.
    fn incident_has_other_cause(&self) -> bool {
        self.incident.as_ref().is_some_and(|open| open.incident.cause != self.id)
    }

    /// What could be seen of its processes is written down, or cannot be: now they may be ended.
    pub(super) fn snapshot_taken<E: Effects>(
        &mut self,
        outcome: Result<String, String>,
        ctx: &mut Ctx<'_, E>,
    ) {
        if let Some(open) = &mut self.incident {
            match outcome {
                Ok(file) => open.incident.snapshot = Some(file),
                Err(why) => {
                    open.incident.summary.push_str(&format!("; no snapshot could be taken: {why}"));
                }
            }
            ctx.publish(Fact::Incident(Phase::Update, open.incident.clone()));
        }
        if matches!(self.recovery, RecoveryState::Snapshotting { .. }) {
            self.recovery = RecoveryState::Idle;
            if self.incident.is_some() {
                self.retry(ctx);
            }
        }
    }

    /// Holds the restart on purpose; the incident stays open until the service is well again.
    pub(super) fn hold<E: Effects>(&mut self, why: &str, ctx: &mut Ctx<'_, E>) {
        self.recovery = RecoveryState::Idle;
        self.say_restart(Action::Hold(why.to_owned()), ctx);
    }

    /// The budget is spent: stop trying for long.
    pub(super) fn give_up<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let wait = self.budget.long_backoff();
        let next = describe(wait);
        let why =
            format!("its budget of {} restarts is spent; the next try is in {next}", self.budget.describe());
        self.loops(&why, ctx);
        self.say_restart(Action::Hold(why), ctx);
        if self.unit.as_ref().is_some_and(|unit| unit.active == "failed") {
            self.was_reset = true;
            ctx.request(Effect::ResetFailed(self.id));
        }
        self.recovery = RecoveryState::CrashLoopBackoff { until: ctx.now.plus(wait) };
    }

    pub(super) fn restart<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        self.budget.spend(ctx.now);
        if let Some(open) = &mut self.incident {
            open.acted(ctx.now);
        }
        let reset_failed = self.start_limit_is_near(ctx.now);
        self.needs_reset = false;
        self.count_start(ctx.now);
        ctx.request(Effect::Restart { service: self.id, method: self.method, reset_failed });
        self.say_restart(Action::Request, ctx);
        // Alive or not, what its probes found before is past.
        self.begin_anew(ctx.now);
        self.recovery = RecoveryState::Restarting { until: ctx.now.plus(ANSWER), confirmed: false };
    }

    pub(super) fn say_restart<E: Effects>(&mut self, action: Action, ctx: &mut Ctx<'_, E>) {
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
            budget_left: self.budget.left(ctx.now),
            action,
        };
        ctx.publish(Fact::Restart(restart));
    }

    pub(super) fn count_start(&mut self, now: Timestamp) {
        self.starts.push_back(now);
        if self.starts.len() > MAX_STARTS {
            self.starts.pop_front();
        }
    }
}
