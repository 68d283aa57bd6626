//! What the failure of one service means for those that depend on it.

use std::time::Duration;

use super::model::{Fault, ProbeState, RecoveryState, Service, Timer};
use crate::{
    clock::Timestamp,
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        rules::{AlertRule, BlameRule, BlockRule},
        surroundings::{Cause, Standing},
        verdict::{Finding, Remedy},
    },
    fact::{Action, Fact, Phase, ServiceId, Verdict},
};

/// A service that was well so long after a dependency had failed can do without it.
const DOES_WITHOUT: Duration = Duration::from_secs(15);

/// What may have failed because of another service, for all that could be seen, has to show that it does not for this
/// long.
const GUESS_LASTS: Duration = Duration::from_secs(60);

/// How much sooner than the failure that caused it an incident may seem to begin: probes of the one may fail
/// before those of the other.
const SOONER: Duration = Duration::from_secs(30);

/// How often it is looked whether something that is not well yet is well, or has failed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Service {
    /// How it stands, as far as it matters to others.
    pub(in crate::engine) fn standing(&self) -> Standing {
        let Some(open) = &self.incident else {
            return if self.is_stopped_since_before() { Standing::Failed } else { Standing::Well };
        };
        match open.rule().blocks {
            BlockRule::Held => Standing::Held(open.cause()),
            BlockRule::Always => Standing::Failed,
            BlockRule::UnlessDegraded if !open.is_degraded() => Standing::Failed,
            BlockRule::UnlessDegraded | BlockRule::Never => Standing::Well,
        }
    }

    /// Whether its unit was stopped when the daemon came, which is nobody's incident.
    fn is_stopped_since_before(&self) -> bool {
        self.incident.is_none()
            && self.unit_is_stopped()
            && (self.probes.is_empty() || self.probes.iter().any(ProbeState::is_failing))
    }

    /// It as the cause of others' failures, if it has an incident.
    pub(in crate::engine) fn as_cause(&self, declared: bool) -> Option<Cause> {
        let Some(open) = &self.incident else {
            return self.is_stopped_since_before().then(|| Cause {
                service: self.settings.id,
                verdict: Verdict::Stopped,
                summary: "systemd says it is stopped".to_owned(),
                since: self.unwell_since.unwrap_or(self.startup.at()),
                declared,
                alerts: false,
                attempts: 0,
                circular: false,
                guessed: false,
            });
        };
        Some(Cause {
            service: self.settings.id,
            verdict: open.verdict(),
            summary: open.summary().to_string(),
            since: open.since(),
            declared,
            alerts: open.rule().alert != AlertRule::Never,
            attempts: open.attempts(),
            circular: false,
            guessed: false,
        })
    }

    /// Whether it may be about to fail, or is not there yet: its failures have begun to count, it says that it is
    /// starting, or it has not answered in its grace so far.
    pub(in crate::engine) fn is_suspect(&self, now: Timestamp) -> bool {
        let undecided = matches!(
            self.recovery.state(),
            RecoveryState::Examining(_) | RecoveryState::Inspecting(_) | RecoveryState::AwaitingSuccessor(_)
        );
        let unproven = self.incident.is_none() && self.probes.iter().any(|probe| !probe.is_ok());
        undecided
            || unproven && now < self.startup.grace_until()
            || self.generation.lost_listener.is_some()
            || self.probes.iter().any(|probe| probe.is_failing() || probe.starting().is_some())
    }

    /// What it depends on and what explains its failures, if something does. A dependency that was only learned
    /// does not, once the service has been well without it.
    pub(super) fn cause<'t, E>(&self, ctx: &'t Ctx<'_, E>) -> Option<&'t Cause> {
        let unwell = self.unwell_since.unwrap_or(ctx.now);
        ctx.surroundings.causes.iter().find(|cause| {
            // Of two that need each other, the first to fail need not be the one to blame.
            let in_vain = cause.circular && cause.attempts > 0;
            // A guess excuses a process that lives, and not for ever: nobody else might ever mend it.
            let far_fetched = cause.guessed
                && (self.main.is_none() && !self.settings.is_remote || ctx.now > unwell.plus(GUESS_LASTS));
            !in_vain && !far_fetched && (cause.declared || unwell <= cause.since.plus(DOES_WITHOUT))
        })
    }

    /// Whether something that it depends on is not well yet, and no incident says so.
    pub(super) fn awaits_another<E>(&self, ctx: &Ctx<'_, E>) -> bool {
        self.settings.restart.enabled && self.cause(ctx).is_none() && !ctx.surroundings.suspects.is_empty()
    }

    /// It has ended, perhaps for want of something that is not well yet: it is started when that is clear.
    pub(super) fn wait_for_another<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let names: Vec<&str> = ctx.surroundings.suspects.iter().map(|suspect| ctx.name(*suspect)).collect();
        let why = format!("{}, which it depends on, is not well yet", names.join(", "));
        for suspect in ctx.surroundings.suspects.clone() {
            ctx.request(Effect::ProbeNow(suspect));
        }
        if !matches!(self.recovery.state(), RecoveryState::Backoff) {
            self.say_restart(Action::Hold(why), ctx);
        }
        self.enter(RecoveryState::Backoff, Some(ctx.now.plus(LOOK_AGAIN)));
    }

    /// A fault that comes of a dependency that has failed.
    pub(super) fn blamed<E>(&self, fault: Fault, ctx: &Ctx<'_, E>) -> Fault {
        let Some(cause) = self.cause(ctx) else { return fault };
        let name = ctx.name(cause.service);
        let (depends, confidence) = if cause.guessed { ("may depend", 0.5) } else { ("depends", 0.9) };
        let why = format!("{name}, which it {depends} on, has an incident ({})", cause.verdict.as_str());
        let summary = fault.finding.summary.caused_by(why.clone(), cause.summary.clone());
        Fault {
            finding: Finding { verdict: Verdict::DependencyDown, confidence, summary },
            remedy: Remedy::Hold(why),
            cause: Some(cause.service),
            cause_alerts: cause.alerts,
            ..fault
        }
    }

    /// Something has changed about what it depends on.
    pub(super) fn on_dependency_changed<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let Some(open) = &self.incident else { return };
        if open.rule().blocks == BlockRule::Held {
            let blamed = open.cause();
            match self.cause(ctx).map(|cause| cause.service) {
                None if !self.timers.is_set(Timer::Healing) => self.released(ctx),
                Some(cause) if cause != blamed => self.blame_another(ctx),
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
                | RecoveryState::Snapshotting
        );
        let since = open.since();
        let follows = self.cause(ctx).is_some_and(|cause| since.plus(SOONER) >= cause.since);
        if explained && free && follows && self.generation.liveness.suspension().is_none() {
            self.blame_another(ctx);
        }
    }

    /// The open incident turns out to come of something that it depends on.
    pub(super) fn blame_another<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let Some(open) = &self.incident else { return };
        let finding =
            Finding { verdict: open.verdict(), confidence: 0.9, summary: open.summary().of_itself() };
        let fault = self.blamed(Fault::now(ctx.now, finding), ctx);
        self.enter(RecoveryState::Idle, None);
        self.fail(fault, ctx);
    }

    /// What it depends on is well again: it has its grace to heal by itself, if it runs at all.
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

    /// Its grace after the dependency healed is over, and it has not.
    pub(super) fn on_healing_over<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        self.timers.clear(Timer::Healing);
        if !self.incident.as_ref().is_some_and(|open| open.rule().blocks == BlockRule::Held) {
            return;
        }
        let busy = ctx.surroundings.pressed.is_some() || ctx.surroundings.together.is_some();
        if self.cause(ctx).is_some() {
            self.enter(RecoveryState::Idle, None);
        } else if busy || !ctx.surroundings.suspects.is_empty() {
            // What fails meanwhile is the same failure still, and no new one of its own.
            self.startup
                .set_grace_until(ctx.now.plus(self.settings.restart.grace.max(Duration::from_secs(1))));
            self.timers.set(Timer::Healing, Some(self.startup.grace_until()));
        } else {
            let finding = self.unhealed("and its probes still fail", ctx);
            self.enter(RecoveryState::Idle, None);
            self.fail_alive(Fault::now(ctx.now, finding), ctx);
        }
    }

    fn unhealed<E>(&self, how: &str, ctx: &Ctx<'_, E>) -> Finding {
        let cause = self.incident.as_ref().map_or(self.settings.id, |open| open.cause());
        let name = ctx.name(cause);
        Finding {
            verdict: Verdict::Unhealed,
            confidence: 0.9,
            summary: format!("{name}, which it depends on, is well again, {how}").into(),
        }
    }

    /// Another service is held because of this one's incident.
    pub(super) fn on_dependent_held<E: Effects>(&mut self, held: ServiceId, ctx: &mut Ctx<'_, E>) {
        let Some(open) = &mut self.incident else { return };
        if open.hold(held) {
            ctx.publish(Fact::Incident(Phase::Update, open.published()));
        }
    }

    /// Takes note of since when it has not been well.
    pub(super) fn note_well(&mut self, now: Timestamp) {
        if self.incident.is_none() && self.probes.iter().all(|probe| probe.is_ok()) {
            self.unwell_since = None;
        } else {
            self.unwell_since.get_or_insert(now);
        }
    }
}
