//! Stops on request: a state and an event, and no incident.

use super::model::{RecoveryState, Scope, Service, Stopped};
use crate::{
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        unit::meaning::{Meaning, Phase},
    },
    fact::{Fact, Phase as IncidentPhase, UnitState, Verdict},
};

impl Service {
    /// systemd was asked to stop or restart the unit, so nothing failed. A stop ends an open incident. A restart does
    /// not: the service has to prove healthy.
    pub(super) fn on_stop_request<E: Effects>(&mut self, why: &str, restarts: bool, ctx: &mut Ctx<'_, E>) {
        if self.stopped.is_none() {
            let invocation = self.unit.meaning().map_or_else(String::new, |(it, _)| it.invocation_id.clone());
            self.stopped = Some(Stopped { why: why.to_owned(), since: ctx.now, actor: None, invocation });
        }
        // A program that stops and starts it again and again is not done with a stop.
        if !restarts && !self.has_verdict(Verdict::RestartedByOther) {
            self.end_incident(why, ctx);
        }
        self.verify();
        self.publish_state(ctx);
    }

    /// Ends the incident of a service that is not to run any more.
    pub(super) fn end_incident<E: Effects>(&mut self, why: &str, ctx: &mut Ctx<'_, E>) {
        let Some(mut open) = self.incident.take() else { return };
        self.enter(RecoveryState::Idle, None);
        self.timers.end(Scope::Incident);
        open.set_request(why);
        if !open.alerted() {
            open.downgrade();
        }
        ctx.publish(Fact::Incident(IncidentPhase::Resolve, open.published()));
        self.call_hooks_at_end(&open, ctx);
        if open.alerted() {
            ctx.request(Effect::Alert { incident: open.published(), resolved: true });
        }
    }

    /// Forgets the stop once the service runs and is healthy again.
    pub(super) fn forget_stop(&mut self) {
        if self.is_kept_stopped() || matches!(self.recovery.state(), RecoveryState::Restarting { .. }) {
            return;
        }
        let runs = self.main.is_some() || self.unit.is_in(Phase::Up) || self.unit.is_in(Phase::Finished);
        if self.stopped.is_some()
            && runs
            && !self.unit.is_between()
            && self.probes.iter().all(|probe| probe.is_ok())
        {
            self.stopped = None;
        }
    }

    /// Why it does not run on purpose, if so.
    pub(super) fn rest(&self) -> Option<String> {
        if let Some(order) = &self.orders.stop {
            return Some(order.to_string());
        }
        if let Some(Stopped { why, .. }) = &self.stopped
            && (self.main.is_none() && !self.unit.is_between() || self.unit.is_in(Phase::Stopping))
        {
            return Some(why.clone());
        }
        let (state, row) = self.unit.meaning()?;
        let rests = match row.meaning {
            Meaning::Stopped => true,
            Meaning::Done => row.phase == Phase::Down,
            // Nothing is known of its last run, so it is not known to have failed.
            Meaning::Fault(..) => state.active == "inactive" && state.load == "loaded",
            Meaning::Runs | Meaning::Starting | Meaning::Waits => false,
        };
        let rests = rests && self.main.is_none() && self.incident.is_none();
        rests.then(|| crate::engine::unit::meaning::words(row, state))
    }

    /// Whether the service is not meant to run now, so that failed probes say nothing.
    pub(super) fn is_at_rest(&self) -> bool {
        (self.settings.is_unit || self.stopped.is_some()) && self.rest().is_some()
    }

    /// Whether a service that others need is down on purpose.
    pub(super) fn is_stopped(&self) -> bool {
        let done = self.unit.meaning().is_some_and(|(_, row)| row.meaning == Meaning::Done);
        self.stopped.is_some() || !done && self.is_at_rest()
    }

    /// Whether a stop of the unit, which has begun, was requested.
    pub(super) fn begins_to_stop(state: &UnitState) -> bool {
        state.active == "deactivating" && state.job.as_ref().is_some_and(|job| job.kind == "stop")
    }
}
