//! Due timers.

use super::model::{Fault, RecoveryState, Service, Timer};
use crate::{
    engine::{ctx::Ctx, effect::Effects, verdict::Finding},
    fact::{Examination, Verdict},
};

impl Service {
    /// Handles all due alerts and the first other due timer.
    pub(super) fn on_due<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        while let Some(timer) = self.timers.take_due(ctx.now) {
            match timer {
                Timer::Alert => self.alert_now(ctx),
                // Nothing else to do: the engine settles the service after each input.
                Timer::Settled | Timer::WorkersQuiet | Timer::BacklogEmpty | Timer::ContextDue => {}
                Timer::RestartsQuiet => return self.on_restarts_quiet(ctx),
                Timer::ListenerGone => return self.on_listener_gone(ctx),
                Timer::PortCheck => return self.on_port_check_overdue(ctx),
                Timer::WorkerDied => return self.on_worker_died(ctx),
                Timer::Healing => return self.on_healing_over(ctx),
                Timer::StartOverdue => return self.on_start_overdue(ctx),
                Timer::Recheck => return self.examine(Examination::OVER, None, ctx),
                Timer::PauseOver => self.on_pause_over(ctx),
                Timer::AckOver => self.on_ack_over(ctx),
                Timer::Recovery => return self.on_recovery_timeout(ctx),
            }
        }
    }

    /// Whether it waits for something that may never come, without a limit.
    #[cfg(test)]
    pub fn waits_without_limit(&self) -> bool {
        let needs_limit = match self.recovery.state() {
            RecoveryState::Idle
            | RecoveryState::Verifying
            | RecoveryState::AwaitingHost(_)
            | RecoveryState::AwaitingHostBudget => false,
            // The daemon answers in any case.
            RecoveryState::Inspecting(_) => false,
            // An operator or the clock ends a pause.
            RecoveryState::Backoff => self.pause().is_none(),
            RecoveryState::WaitingToStart(_)
            | RecoveryState::Restarting { .. }
            | RecoveryState::AwaitingSuccessor(_)
            | RecoveryState::FindingSuccessor(_)
            | RecoveryState::SystemdRestarting
            | RecoveryState::Examining { .. }
            | RecoveryState::Snapshotting
            | RecoveryState::FindingPortHolder(_)
            | RecoveryState::CrashLoopBackoff => true,
        };
        needs_limit && !self.timers.is_set(Timer::Recovery)
    }

    fn on_recovery_timeout<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        match self.recovery.state() {
            RecoveryState::Inspecting(_) => self.inspect_again(ctx),
            RecoveryState::Backoff | RecoveryState::CrashLoopBackoff => self.retry(ctx),
            RecoveryState::AwaitingSuccessor(fault) => {
                let fault = Fault::clone(fault);
                self.enter(RecoveryState::Idle, None);
                self.fail(fault, ctx);
            }
            RecoveryState::Restarting { confirmed: false } if self.unit.is_between() => {
                self.await_restart(ctx)
            }
            RecoveryState::FindingSuccessor(_) => self.on_search_due(ctx),
            RecoveryState::WaitingToStart(_) => self.on_first_start_overdue(ctx),
            RecoveryState::Restarting { .. } => {
                self.enter(RecoveryState::Idle, None);
                let finding = Finding::new(Verdict::Exited, 0.8, "the restart led to no main process");
                self.fail(Fault::now(ctx.now, finding), ctx);
            }
            RecoveryState::SystemdRestarting => self.on_systemd_restart_overdue(ctx),
            RecoveryState::Examining { .. } => self.on_examined(None, ctx),
            RecoveryState::FindingPortHolder(_) => self.on_port_holder(None, ctx),
            RecoveryState::Snapshotting => self.on_snapshot(Err("it took too long".to_owned()), ctx),
            // The engine tells when there is room.
            RecoveryState::AwaitingHostBudget | RecoveryState::AwaitingHost(_) => {}
            RecoveryState::Idle | RecoveryState::Verifying => {}
        }
    }
}
