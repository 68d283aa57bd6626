//! Restarts: whether, when, and their outcome.

use std::time::Duration;

use super::model::{Fault, OpenIncident, RecoveryState, RequestedRestart, Service};
use crate::{
    engine::{
        budget::describe,
        ctx::Ctx,
        effect::{Effect, Effects},
        rules::Extra,
        verdict::{Finding, Remedy},
    },
    fact::{Action, EventId, Fact, Phase, Restart, RestartMethod, Verdict},
};

/// Every restart method reports sooner than this.
const ANSWER: Duration = Duration::from_secs(120);

/// How much later than its time limits systemd may report the end of a job, and the supervisor a start. Before it begins,
/// `restart.before` may take a minute.
const ANSWER_SLACK: Duration = Duration::from_secs(70);

/// Why a restart is held where hostprobe does not restart.
const NOT_ENABLED: &str = "restarts are not enabled for this service";

/// The time limit of a snapshot.
const SNAPSHOT: Duration = Duration::from_secs(4);

impl Service {
    /// The outcome of the requested restart. It is published whatever became of the service meanwhile.
    pub(super) fn on_restarted<E: Effects>(&mut self, outcome: Result<(), String>, ctx: &mut Ctx<'_, E>) {
        let requested = self.recovery.take_requested();
        // The service was well again before the outcome came, which then says nothing of its health.
        let was_well = self.incident.is_none()
            && requested.as_ref().is_some_and(|requested| requested.incident.is_some());
        if let Some(requested) = requested {
            self.publish_outcome(*requested, &outcome, ctx);
        }
        self.recovery.set_asked(None);
        if self.is_kept_stopped() {
            return;
        }
        // A late outcome belongs to a restart that is no longer current.
        let first_start = self.incident.is_none() && !was_well && outcome.is_err();
        if !matches!(self.recovery.state(), RecoveryState::Restarting { .. }) && !first_start {
            return;
        }
        match outcome {
            Ok(()) if self.settings.is_matched && (!self.probes.is_empty() || self.main.is_some()) => {
                // The command may heal a running process, or one that the daemon cannot find. The probes will tell.
                self.verify();
                ctx.request(Effect::ProbeUntilHealthy(self.settings.id));
            }
            Ok(()) => {
                let patience = self.settings.restart.grace.max(Duration::from_secs(5));
                self.enter(RecoveryState::Restarting { confirmed: true }, Some(ctx.now.plus(patience)));
                if self.settings.is_unit {
                    ctx.request(Effect::InspectUnit(self.settings.id));
                }
            }
            // It still stops or starts.
            Err(_) if self.settings.is_unit && self.unit.is_between() => {
                self.await_restart(ctx);
                ctx.request(Effect::InspectUnit(self.settings.id));
            }
            Err(error) if self.settings.is_unit => {
                // The operator may have stopped the unit meanwhile.
                let summary = format!("the restart failed: {error}");
                let finding = Finding::new(Verdict::Exited, 1.0, summary);
                self.inspect(Fault::now(ctx.now, finding), None, ctx);
            }
            Err(error) => {
                let finding = Finding {
                    verdict: Verdict::Exited,
                    confidence: 1.0,
                    summary: format!("it could not be started: {error}").into(),
                };
                let fault = Fault::now(ctx.now, finding);
                self.enter(RecoveryState::Idle, None);
                self.fail(fault, ctx);
            }
        }
    }

    /// The requested restart is still to come: the daemon lacks what it takes. The service has no part in that.
    pub(super) fn on_restart_delayed<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if matches!(self.recovery.state(), RecoveryState::Restarting { confirmed: false }) {
            self.enter(RecoveryState::Restarting { confirmed: false }, Some(ctx.now.plus(ANSWER)));
        }
    }

    /// Decides on the action for the open incident.
    pub(super) fn decide<E: Effects>(&mut self, remedy: Remedy, ctx: &mut Ctx<'_, E>) {
        let Some(open) = &self.incident else { return };
        if self.settings.is_remote {
            self.enter(RecoveryState::Idle, None);
            return;
        }
        let attempt = open.attempts() + 1;
        let wants_snapshot =
            open.rule().extra == Extra::Snapshot && !open.has_snapshot() && self.main.is_some();
        self.recovery.set_restart_useless(remedy != Remedy::Restart);
        match remedy {
            Remedy::Nothing => {
                self.enter(RecoveryState::Idle, None);
                return;
            }
            Remedy::Hold(why) if self.settings.restart.enabled || self.incident_has_other_cause() => {
                return self.hold(&why, ctx);
            }
            // Also where hostprobe does not restart, what does should wait.
            Remedy::Await(why) => return self.hold(&why, ctx),
            Remedy::Hold(_) | Remedy::Restart => {}
        }
        if wants_snapshot {
            ctx.request(Effect::Snapshot(self.settings.id));
        }
        if self.settings.only_observed {
            return self.hold("the daemon only observes (--observe)", ctx);
        }
        if !self.may_restart() {
            return self.hold(NOT_ENABLED, ctx);
        }
        if let Some(why) = self.restarted_by_other() {
            return self.hold(why, ctx);
        }
        if self.is_paused() {
            return self.hold_for_pause(ctx);
        }
        if self.waits_for_host(ctx) {
            return;
        }
        if self.recovery.budget().left(ctx.now) == 0 {
            return self.on_budget_spent(ctx);
        }
        let mut wait = self.recovery.budget().backoff(attempt);
        if self.recovery.port_taken() {
            wait = wait.max(self.settings.restart.backoff_first);
        }
        if wait.is_zero() && wants_snapshot {
            self.enter(RecoveryState::Snapshotting, Some(ctx.now.plus(SNAPSHOT)));
        } else if wait.is_zero() {
            self.restart(ctx);
        } else {
            let why = format!("back-off of {} before attempt {attempt}", describe(wait));
            self.publish_restart(Action::Hold(why), ctx);
            self.enter(RecoveryState::Backoff, Some(ctx.now.plus(wait)));
        }
    }

    /// The wait before a restart is over. A wait for a dependency or for the end of a pause began without a look at the
    /// budget, and a reload may have lowered it since. With the budget spent, there is one restart after each long back-off.
    pub(super) fn restart_after_wait<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if self.recovery.budget().left(ctx.now) == 0 && !self.has_verdict(Verdict::CrashLoop) {
            self.on_budget_spent(ctx);
        } else {
            self.restart(ctx);
        }
    }

    /// Whether a restart was requested and is not made yet.
    pub fn awaits_restart(&self) -> bool {
        matches!(self.recovery.state(), RecoveryState::Restarting { confirmed: false })
    }

    /// Whether hostprobe restarts it.
    fn may_restart(&self) -> bool {
        self.settings.restart.enabled && self.settings.method != RestartMethod::None
    }

    /// A reload has turned restarts on. If only their lack held the restart, the service is restarted.
    pub(super) fn reconsider<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if self.is_idle() && self.may_restart() && !self.recovery.is_restart_useless() {
            self.retry(ctx);
        }
    }

    /// Whether another service causes the open incident.
    fn incident_has_other_cause(&self) -> bool {
        self.incident.as_ref().is_some_and(|open| open.cause() != self.settings.id)
    }

    /// The snapshot is written, or failed. The restart may go on.
    pub(super) fn on_snapshot<E: Effects>(&mut self, outcome: Result<String, String>, ctx: &mut Ctx<'_, E>) {
        if let Some(open) = &mut self.incident {
            match outcome {
                Ok(file) => open.set_snapshot(file),
                Err(why) => open.add_detail(format!("no snapshot could be taken: {why}")),
            }
            ctx.publish(Fact::Incident(Phase::Update, open.published()));
        }
        if matches!(self.recovery.state(), RecoveryState::Snapshotting) {
            self.enter(RecoveryState::Idle, None);
            if self.incident.is_some() {
                self.retry(ctx);
            }
        }
    }

    /// Holds the restart. The incident stays open until the service is healthy again.
    pub(super) fn hold<E: Effects>(&mut self, why: &str, ctx: &mut Ctx<'_, E>) {
        self.enter(RecoveryState::Idle, None);
        self.publish_restart(Action::Hold(why.to_owned()), ctx);
    }

    /// The budget is spent. Starts the long back-off.
    pub(super) fn on_budget_spent<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let wait = self.recovery.budget().long_backoff();
        let next = describe(wait);
        let why = format!(
            "its budget of {} restarts is spent; the next try is in {next}",
            self.recovery.budget().describe()
        );
        self.become_crash_loop(&why, ctx);
        self.publish_restart(Action::Hold(why), ctx);
        if self.unit.is("failed") {
            ctx.request(Effect::ResetFailed(self.settings.id));
        }
        self.enter(RecoveryState::CrashLoopBackoff, Some(ctx.now.plus(wait)));
    }

    pub(super) fn restart<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if !self.may_restart() {
            // A reload has turned restarts off since the decision.
            return self.hold(NOT_ENABLED, ctx);
        }
        if !ctx.host_budget.spend(ctx.now) {
            return self.await_host_budget(ctx);
        }
        self.recovery.budget().spend(ctx.now);
        self.recovery.set_asked(None);
        if let Some(open) = &mut self.incident {
            open.note_restart(ctx.now);
        }
        self.request_restart(ctx);
        self.publish_restart(Action::Request, ctx);
    }

    /// Has it restarted by its method, and waits for the outcome.
    pub(super) fn request_restart<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let reset_failed = self.unit.start_limit_is_near(self.recovery.starts(), ctx.now);
        self.unit.set_needs_reset(false);
        self.recovery.set_held_since(None);
        self.recovery.count_start(ctx.now);
        ctx.request(Effect::Restart {
            service: self.settings.id,
            method: self.settings.method,
            reset_failed,
        });
        // Earlier results of its probes are out of date.
        self.reset_startup(ctx.now);
        self.expect_outcome();
        self.await_restart(ctx);
    }

    /// Remembers what the next outcome is of. A first start is no restart.
    /// Its failure is in the incident that it opens.
    pub(super) fn expect_outcome(&mut self) {
        let is_restart = self.incident.is_some() || self.recovery.asked().is_some();
        let requested = is_restart.then(|| RequestedRestart {
            incident: self.incident.as_ref().map(|open| Box::new(open.published())),
            method: self.settings.method,
            attempt: self.incident.as_ref().map_or(0, OpenIncident::attempts),
            reason: self.restart_reason(),
        });
        self.recovery.set_requested(requested);
    }

    fn publish_outcome<E: Effects>(
        &mut self,
        requested: RequestedRestart,
        outcome: &Result<(), String>,
        ctx: &mut Ctx<'_, E>,
    ) {
        let RequestedRestart { incident, method, attempt, reason } = requested;
        ctx.publish(Fact::Restart(Restart {
            service: self.settings.id,
            incident: incident.as_ref().map(|incident| incident.id),
            method,
            attempt,
            reason,
            budget_left: self.recovery.budget().left(ctx.now),
            action: match outcome {
                Ok(()) => Action::Done,
                Err(error) => Action::Fail(error.clone()),
            },
        }));
        if outcome.is_ok() {
            let open =
                self.incident.as_ref().filter(|open| incident.as_ref().is_some_and(|it| it.id == open.id()));
            let incident = open.map(|open| Box::new(open.published())).or(incident);
            self.call_hooks_after_restart(incident, ctx);
        }
    }

    /// Waits for the outcome of the restart. systemd may take long to stop a unit.
    pub(super) fn await_restart<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let bound = match (self.settings.is_unit, self.unit.restart_bound()) {
            (true, Some(bound)) => ANSWER.max(bound.saturating_add(ANSWER_SLACK)),
            // Its command has as long as what runs before it.
            (_, _) if self.settings.is_matched => ANSWER.saturating_add(ANSWER_SLACK),
            (_, _) => ANSWER.max(self.settings.stop_timeout.saturating_add(ANSWER_SLACK)),
        };
        self.enter(RecoveryState::Restarting { confirmed: false }, Some(ctx.now.plus(bound)));
    }

    pub(super) fn publish_restart<E: Effects>(&mut self, action: Action, ctx: &mut Ctx<'_, E>) -> EventId {
        self.publish_restart_for(self.restart_reason(), action, ctx)
    }

    fn restart_reason(&self) -> String {
        match (self.recovery.asked(), &self.incident) {
            (Some(order), _) => order.to_owned(),
            (None, Some(open)) => open.summary().to_string(),
            (None, None) => "first start".to_owned(),
        }
    }

    pub(super) fn publish_restart_for<E: Effects>(
        &mut self,
        reason: String,
        action: Action,
        ctx: &mut Ctx<'_, E>,
    ) -> EventId {
        let open = self.incident.as_ref();
        let restart = Restart {
            service: self.settings.id,
            incident: open.map(OpenIncident::id),
            method: self.settings.method,
            attempt: open.map_or(0, |open| match action {
                Action::Hold(_) => open.attempts() + 1,
                Action::Request | Action::Done | Action::Fail(_) => open.attempts(),
            }),
            reason,
            budget_left: self.recovery.budget().left(ctx.now),
            action,
        };
        ctx.publish(Fact::Restart(restart))
    }
}
