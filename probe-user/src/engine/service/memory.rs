//! What outlives the daemon: given out when it changes, and taken up after a restart.

use std::time::Duration;

use super::model::{CONFIRMED_WITHIN, OpenIncident, RecoveryState, Service, Timer};
use crate::{
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        rules::{BlockRule, EndRule},
    },
    fact::{Fact, Memory, Phase, RememberedIncident, RememberedWait},
};

/// Two samples of what it uses, and the examination of a process that is stopped, take less than this.
const CONFIRMED: Duration = Duration::from_secs(15);

/// How soon a process that was stopped is examined again.
const EXAMINED: Duration = Duration::from_secs(1);

impl Service {
    fn memory(&self) -> Memory {
        let waits = self.timers.get(Timer::Recovery);
        let wait = match self.recovery.state() {
            RecoveryState::Backoff => Some(RememberedWait::Backoff(waits)),
            // It asks for room in the budget again.
            _ if self.waits_for_host_budget().is_some() => {
                Some(RememberedWait::Backoff(self.waits_for_host_budget()))
            }
            // Whether the host still lacks it is asked again.
            RecoveryState::AwaitingHost(_) => Some(RememberedWait::Backoff(None)),
            RecoveryState::CrashLoopBackoff => waits.map(RememberedWait::CrashLoop),
            RecoveryState::Restarting { .. } => Some(RememberedWait::Restart),
            RecoveryState::Idle
            | RecoveryState::WaitingToStart(_)
            | RecoveryState::Inspecting(_)
            | RecoveryState::AwaitingHostBudget
            | RecoveryState::AwaitingSuccessor(_)
            | RecoveryState::FindingSuccessor(_)
            | RecoveryState::SystemdRestarting
            | RecoveryState::Examining { .. }
            | RecoveryState::Snapshotting
            | RecoveryState::FindingPortHolder(_)
            | RecoveryState::Verifying => None,
        };
        let incident = self.incident.as_ref().map(|open| open.remembered(self.timers.get(Timer::Alert)));
        // Without an incident, the next one has its own waits.
        Memory {
            wait: wait.filter(|_| incident.is_some()),
            incident,
            spent: self.recovery.spent(),
            answers: self.answers(),
            ..Memory::default()
        }
    }

    /// Has the daemon keep the memory if it has changed.
    pub(super) fn keep_memory<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if self.incident.is_none()
            && self.kept.incident.is_none()
            && self.recovery.has_spent(&self.kept.spent)
            && self.are_answers_kept()
        {
            return;
        }
        let memory = self.memory();
        if memory != self.kept {
            self.kept = memory.clone();
            ctx.request(Effect::KeepMemory { service: self.settings.id, memory: Box::new(memory) });
        }
    }

    /// The daemon has just started. The incident of an earlier run goes on, until the service proves healthy.
    pub(super) fn on_memory<E: Effects>(&mut self, memory: Memory, ctx: &mut Ctx<'_, E>) {
        self.recovery.budget().restore(&memory.spent, ctx.now);
        ctx.host_budget.restore(&memory.spent, ctx.now);
        self.kept.answers = memory.answers;
        let Some(remembered) = memory.incident else { return };
        self.timers.set(Timer::Alert, remembered.alert_at);
        if remembered.muted {
            // The order that held it back may be over.
            self.timers.set(Timer::Alert, Some(ctx.now));
        }
        self.timers.set(Timer::AckOver, remembered.acknowledged.as_ref().and_then(|order| order.until));
        let mut open = OpenIncident::of_earlier_run(remembered);
        if open.attempts() > 0 {
            self.recovery.count_start(ctx.now);
        }
        if matches!(open.rule().ends, EndRule::WithinLimits | EndRule::NotStopped | EndRule::Accepts) {
            // What would show that it lasts comes later than the first good answer.
            open.set_unconfirmed_until(ctx.now.plus(CONFIRMED));
        }
        if let (EndRule::LevelsOff, Some(horizon)) = (open.rule().ends, self.settings.limits.growth) {
            open.set_unconfirmed_until(ctx.now.plus(horizon / CONFIRMED_WITHIN));
        }
        if open.rule().ends == EndRule::NotStopped {
            self.timers.set(Timer::Recheck, Some(ctx.now.plus(EXAMINED)));
        }
        ctx.publish(Fact::Incident(Phase::Update, open.published()));
        let unconfirmed = open.unconfirmed_until();
        if open.rule().blocks == BlockRule::Held {
            // The cause may be of another host, or over.
            self.timers.set(Timer::Healing, Some(self.startup.grace_until()));
        }
        self.incident = Some(open);
        match memory.wait {
            Some(RememberedWait::CrashLoop(until)) => {
                drop(self.enter(RecoveryState::CrashLoopBackoff, Some(until)))
            }
            // So may be the pause that has no end.
            Some(RememberedWait::Backoff(until)) => {
                drop(self.enter(RecoveryState::Backoff, Some(until.unwrap_or(ctx.now))))
            }
            Some(RememberedWait::Restart) | None if self.waits_to_start() => {}
            // The daemon is about to start it.
            Some(RememberedWait::Restart) | None if self.settings.is_supervised => {
                self.expect_outcome();
                self.await_restart(ctx);
            }
            // The command may have run. If no process is found, it runs again.
            Some(RememberedWait::Restart) if self.settings.is_matched => self.await_restart(ctx),
            Some(RememberedWait::Restart) | None => self.verify(),
        }
        self.await_settling(ctx.now);
        if unconfirmed > ctx.now {
            self.timers.set(Timer::Settled, Some(unconfirmed));
        }
    }

    /// Whether its command must not be started with the daemon: the back-off of an earlier run is not over.
    pub fn is_backing_off(&self) -> bool {
        matches!(self.recovery.state(), RecoveryState::Backoff | RecoveryState::CrashLoopBackoff)
    }
}

/// The end of an incident of an earlier run whose subject this run does not have.
pub fn end_unknown<E: Effects>(
    remembered: RememberedIncident,
    why: &str,
    now: crate::clock::Timestamp,
    effects: &mut E,
) {
    let mut open = OpenIncident::of_earlier_run(remembered);
    open.set_request(why);
    if !open.alerted() {
        open.downgrade();
    }
    effects.publish(Fact::Incident(Phase::Resolve, open.published()), now);
    if open.alerted() {
        effects.request(Effect::Alert { incident: open.published(), resolved: true });
    }
}
