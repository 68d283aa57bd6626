//! The effect of a service's failure on its dependents.

use std::time::Duration;

use super::model::{Fault, ProbeState, RecoveryState, Service, Timer};
use crate::{
    clock::Timestamp,
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        rules::{self, AlertRule, BlameRule, BlockRule, Mend},
        surroundings::{Cause, Standing},
        verdict::{Finding, Remedy},
    },
    fact::{Action, Fact, Phase, ServiceId, Verdict},
};

/// A service that stayed healthy for so long after a dependency's failure does not need it.
const DOES_WITHOUT: Duration = Duration::from_secs(15);

/// How long a guessed cause excuses a failure.
const GUESS_LASTS: Duration = Duration::from_secs(60);

/// How much sooner than its cause an incident may begin, because the probes of the dependent may fail first.
const CAUSE_TOLERANCE: Duration = Duration::from_secs(30);

/// Between two checks whether a dependency has become healthy or has failed.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

impl Service {
    /// The service's standing for its dependents.
    pub(in crate::engine) fn standing(&self) -> Standing {
        let Some(open) = &self.incident else {
            return if self.fails_others() { Standing::Failed } else { Standing::Well };
        };
        match open.rule().blocks {
            // Its cause may be no service.
            BlockRule::Held if open.cause() == self.settings.id => Standing::Failed,
            BlockRule::Held => Standing::Held(open.cause()),
            BlockRule::Always => Standing::Failed,
            BlockRule::UnlessDegraded if !open.is_degraded() => Standing::Failed,
            BlockRule::UnlessDegraded | BlockRule::Never => Standing::Well,
        }
    }

    /// Whether it is down on purpose, so that it has no incident. A probe may show that it answers all the same.
    fn fails_others(&self) -> bool {
        self.is_stopped()
            && (self.stopped.is_some()
                || self.probes.is_empty()
                || self.probes.iter().any(ProbeState::is_failing))
    }

    /// Whether its unit has failed or is being restarted because of that.
    pub(in crate::engine) fn has_failed(&self) -> bool {
        self.incident.is_some() || matches!(self.recovery.state(), RecoveryState::Inspecting(_))
    }

    /// The canonical name of its unit, once systemd has said it.
    pub(in crate::engine) fn unit_id(&self) -> Option<&str> {
        self.unit.id()
    }

    /// The service as a cause of other failures, if it has an incident.
    pub(in crate::engine) fn as_cause(&self, declared: bool) -> Option<Cause> {
        let Some(open) = &self.incident else {
            return self.fails_others().then(|| Cause {
                service: self.settings.id,
                verdict: Verdict::Stopped,
                summary: self.rest().unwrap_or_else(|| "it starts again".to_owned()),
                since: self
                    .stopped
                    .as_ref()
                    .map_or_else(|| self.unwell_since.unwrap_or(self.startup.at()), |stopped| stopped.since),
                declared,
                alerts: false,
                attempts: 0,
                circular: false,
                guessed: false,
                foreign: None,
            });
        };
        Some(Cause {
            service: self.settings.id,
            verdict: open.verdict(),
            summary: open.published().summary,
            since: open.since(),
            declared,
            alerts: open.rule().alert != AlertRule::Never,
            attempts: open.attempts(),
            circular: false,
            guessed: false,
            foreign: None,
        })
    }

    /// Whether it may be about to fail or has not started yet: its failures have begun to count, it reports that it
    /// is starting, or it has not answered in its grace.
    pub(in crate::engine) fn is_suspect(&self, now: Timestamp) -> bool {
        let undecided = matches!(
            self.recovery.state(),
            RecoveryState::Examining { .. }
                | RecoveryState::Inspecting(_)
                | RecoveryState::AwaitingSuccessor(_)
                | RecoveryState::FindingSuccessor(_)
        );
        let unproven = self.incident.is_none() && self.probes.iter().any(|probe| !probe.is_ok());
        undecided
            || unproven && now < self.startup.grace_until()
            || self.generation.lost_listener.is_some()
            || self.probes.iter().any(|probe| probe.is_failing() || probe.starting().is_some())
    }

    /// The failed dependency that explains its failures. A learned dependency explains nothing once the service has
    /// been healthy without it.
    pub(super) fn cause<'t, E>(&self, ctx: &'t Ctx<'_, E>) -> Option<&'t Cause> {
        let unwell = self.unwell_since.unwrap_or(ctx.now);
        ctx.surroundings.causes.iter().find(|cause| {
            // Of two services that need each other, the first to fail need not be the cause.
            let in_vain = cause.circular && cause.attempts > 0;
            // A guess excuses a living process only for a limited time, because nothing else may mend it.
            let far_fetched = cause.guessed
                && (self.main.is_none() && !self.settings.is_remote || ctx.now > unwell.plus(GUESS_LASTS));
            !in_vain && !far_fetched && (cause.declared || unwell <= cause.since.plus(DOES_WITHOUT))
        })
    }

    /// Whether a dependency is unhealthy without an incident.
    pub(super) fn awaits_dependency<E>(&self, ctx: &Ctx<'_, E>) -> bool {
        self.settings.restart.enabled && self.cause(ctx).is_none() && !ctx.surroundings.suspects.is_empty()
    }

    /// It has ended, perhaps because a dependency is unhealthy. It is started once that is clear.
    pub(super) fn wait_for_dependency<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let names: Vec<&str> = ctx.surroundings.suspects.iter().map(|suspect| ctx.name(*suspect)).collect();
        let why = format!("{}, which it depends on, is not healthy yet", names.join(", "));
        for suspect in ctx.surroundings.suspects.clone() {
            ctx.request(Effect::ProbeNow(suspect));
        }
        if !matches!(self.recovery.state(), RecoveryState::Backoff) {
            self.publish_restart(Action::Hold(why), ctx);
        }
        self.enter(RecoveryState::Backoff, Some(ctx.now.plus(RECHECK_INTERVAL)));
    }

    /// A fault with a failed dependency as its cause.
    pub(super) fn blamed<E>(&self, fault: Fault, ctx: &Ctx<'_, E>) -> Fault {
        let Some(cause) = self.cause(ctx) else { return fault };
        let name = ctx.name(cause.service);
        let (depends, confidence) = match &cause.foreign {
            // Another host may be wrong, and this one may not need the service.
            Some((confidence, _)) => ("depends", 0.9 * confidence),
            None if cause.guessed => ("may depend", 0.5),
            None => ("depends", 0.9),
        };
        let why = if cause.verdict == Verdict::Stopped {
            format!("{name}, which it {depends} on, is stopped")
        } else {
            format!("{name}, which it {depends} on, has an incident ({})", cause.verdict.as_str())
        };
        let summary = fault.finding.summary.caused_by(why.clone(), cause.summary.clone());
        Fault {
            finding: Finding { verdict: Verdict::DependencyDown, confidence, summary },
            remedy: Remedy::Hold(why),
            cause: Some(cause.service),
            cause_alerts: cause.alerts,
            foreign_evidence: cause.foreign.as_ref().map_or_else(Vec::new, |(_, evidence)| evidence.clone()),
            ..fault
        }
    }

    /// The state of a dependency has changed.
    pub(super) fn on_dependency_changed<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let Some(open) = &self.incident else { return };
        if open.rule().blocks == BlockRule::Held {
            let blamed = open.cause();
            match self.cause(ctx).map(|cause| cause.service) {
                None if ctx.surroundings.elsewhere.unknown.contains(&blamed) => self.lose_sight_of_cause(ctx),
                None if !self.timers.is_set(Timer::Healing) => self.released(ctx),
                Some(cause) if cause != blamed => self.blame_dependency(ctx),
                None | Some(_) => {}
            }
            return;
        }
        let explained = open.rule().blame == BlameRule::Always;
        let free = matches!(
            self.recovery.state(),
            RecoveryState::Idle
                | RecoveryState::Verifying
                | RecoveryState::Backoff
                | RecoveryState::AwaitingHostBudget
                | RecoveryState::AwaitingHost(_)
                | RecoveryState::Snapshotting
        );
        let since = open.since();
        let follows = self.cause(ctx).is_some_and(|cause| since.plus(CAUSE_TOLERANCE) >= cause.since);
        if explained && free && follows && self.generation.liveness.suspension().is_none() {
            self.blame_dependency(ctx);
        }
    }

    /// A dependency turns out to be the cause of the open incident.
    pub(super) fn blame_dependency<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let Some(open) = &self.incident else { return };
        let finding =
            Finding { verdict: open.verdict(), confidence: 0.9, summary: open.summary().of_itself() };
        let fault = self.blamed(Fault::now(ctx.now, finding), ctx);
        self.enter(RecoveryState::Idle, None);
        self.fail(fault, ctx);
    }

    /// Nothing is known any more of the service on another host that is the cause. The probes decide, as without the fleet.
    fn lose_sight_of_cause<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        self.timers.clear(Timer::Healing);
        self.enter(RecoveryState::Verifying, None);
        ctx.request(Effect::ProbeNow(self.settings.id));
    }

    /// The dependency is healthy again. If the service runs, it gets a grace to heal by itself.
    fn released<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if self.main.is_none() && !self.settings.is_remote && self.recovery.was_started() {
            let fault = Fault::now(ctx.now, self.unhealed("and it does not run", ctx));
            return self.fail_alive(fault, ctx);
        }
        self.reset_startup(ctx.now);
        self.timers.set(Timer::Healing, Some(self.startup.grace_until()));
        self.enter(RecoveryState::Verifying, None);
        ctx.request(Effect::ProbeUntilHealthy(self.settings.id));
    }

    /// The grace after the dependency's recovery is over, and the service is still unhealthy.
    pub(super) fn on_healing_over<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        self.timers.clear(Timer::Healing);
        if !self.incident.as_ref().is_some_and(|open| open.rule().blocks == BlockRule::Held) {
            return;
        }
        let is_foreign = self.incident.as_ref().is_some_and(|open| open.cause().is_foreign());
        let busy = ctx.surroundings.pressed.is_some() || ctx.surroundings.together.is_some();
        if self.cause(ctx).is_some() {
            self.enter(RecoveryState::Idle, None);
        } else if busy || !ctx.surroundings.suspects.is_empty() {
            // Failures in the meantime still belong to the same failure.
            self.startup
                .set_grace_until(ctx.now.plus(self.settings.restart.grace.max(Duration::from_secs(1))));
            self.timers.set(Timer::Healing, Some(self.startup.grace_until()));
        } else if !self.probes.is_empty() && (is_foreign || self.fails_beyond_mending()) {
            // Its next failures are judged by themselves. That another host says it is well again is no evidence for a restart
            // here.
            self.enter(RecoveryState::Verifying, None);
        } else {
            let finding = self.unhealed("and its probes still fail", ctx);
            self.enter(RecoveryState::Idle, None);
            self.fail_alive(Fault::now(ctx.now, finding), ctx);
        }
    }

    /// Whether no probe fails in a way that a restart could mend. Without a result since the dependency's recovery,
    /// nothing says that it does.
    fn fails_beyond_mending(&self) -> bool {
        let is_beyond = |failure| matches!(rules::of_failure(failure).mend, Mend::Hold | Mend::Nothing);
        self.probes.iter().filter_map(ProbeState::failure).all(is_beyond)
    }

    fn unhealed<E>(&self, how: &str, ctx: &Ctx<'_, E>) -> Finding {
        let cause = self.incident.as_ref().map_or(self.settings.id, |open| open.cause());
        let name = ctx.name(cause);
        Finding {
            verdict: Verdict::Unhealed,
            confidence: 0.9,
            summary: format!("{name}, which it depends on, is healthy again, {how}").into(),
        }
    }

    /// Another service is held because of this one's incident.
    pub(super) fn on_dependent_held<E: Effects>(&mut self, held: ServiceId, ctx: &mut Ctx<'_, E>) {
        let Some(open) = &mut self.incident else { return };
        if open.hold(held) {
            ctx.publish(Fact::Incident(Phase::Update, open.published()));
            if open.alerted() {
                // A receiver that updates its message names what is held.
                ctx.request(Effect::Alert { incident: open.published(), resolved: false });
            }
        }
    }

    /// Services of other hosts are held because of this one's incident.
    pub(super) fn on_held_elsewhere<E: Effects>(&mut self, held: Vec<ServiceId>, ctx: &mut Ctx<'_, E>) {
        for service in held {
            self.on_dependent_held(service, ctx);
        }
    }

    /// Notes since when it has been unhealthy.
    pub(super) fn note_unwell(&mut self, now: Timestamp) {
        if self.incident.is_none() && self.probes.iter().all(|probe| probe.is_ok()) {
            if let Some(since) = self.unwell_since.take() {
                self.network.recovered(since);
            }
        } else {
            self.unwell_since.get_or_insert(now);
        }
    }
}
