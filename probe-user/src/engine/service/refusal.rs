//! A probe that is refused although the main process lives: by the kernel, because nothing listens, or by something on
//! the way.

use super::model::{CHECK, FailureStreak, PortCheck, RecoveryState, Service, Timer};
use crate::{
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
    },
    fact::ProbeFailure,
};

impl Service {
    /// The port on this host that refuses the probe, if that is why it failed.
    fn refusing_port(&self, streak: &FailureStreak) -> Option<u16> {
        let probe = self.probes.get(streak.index)?;
        let is_own = self.main.is_some() && !self.settings.is_remote;
        probe.port().filter(|_| is_own && streak.failure == ProbeFailure::Refused)
    }

    /// Requests to find out whether the service listens on the port that refuses the probe. True if the answer is to
    /// come: the streak is judged with it.
    pub(super) fn awaits_port_check<E: Effects>(
        &mut self,
        streak: &FailureStreak,
        ctx: &mut Ctx<'_, E>,
    ) -> bool {
        let Some(port) = self.refusing_port(streak) else { return false };
        let known = self.generation.port_check.as_ref().filter(|check| check.port == port);
        if known.is_some_and(PortCheck::is_pending) {
            return true;
        }
        if known.is_some_and(|check| check.held(ctx.now).is_some()) {
            return false;
        }
        self.generation.port_check = Some(PortCheck::new(port, streak.clone()));
        self.timers.set(Timer::PortCheck, Some(ctx.now.plus(CHECK)));
        ctx.request(Effect::FindListener { service: self.settings.id, port });
        true
    }

    /// Whether the service listens on the port that refuses the probe.
    pub(super) fn listens_in_vain<E>(&self, streak: &FailureStreak, ctx: &Ctx<'_, E>) -> bool {
        let port = self.refusing_port(streak);
        let check = self.generation.port_check.as_ref().filter(|check| Some(check.port) == port);
        check.and_then(|check| check.held(ctx.now)) == Some(true)
    }

    /// Whether a failure of this probe can be the service's: the probe has been answered before, or the service has
    /// listened on the port that refuses it.
    pub(super) fn has_proved_right(&self, streak: &FailureStreak) -> bool {
        let Some(probe) = self.probes.get(streak.index) else { return false };
        let listened = self.refusing_port(streak).is_some_and(|port| self.listeners.has_listened(port));
        // Without a main process there is nothing that a restart could harm.
        let is_gone = streak.failure == ProbeFailure::Refused && self.main.is_none();
        probe.has_been_answered() || listened || is_gone
    }

    /// The daemon has looked for a listener on a port.
    pub(super) fn on_port_checked<E: Effects>(&mut self, port: u16, held: bool, ctx: &mut Ctx<'_, E>) {
        let asked = self.generation.port_check.as_mut().filter(|it| it.port == port && it.is_pending());
        let Some(check) = asked else { return };
        check.answer(held, ctx.now);
        let streak = check.streak.clone();
        self.timers.clear(Timer::PortCheck);
        if held {
            // It may have begun to listen after the probe, so the next probe decides.
            ctx.request(Effect::ProbeNow(self.settings.id));
        } else {
            self.judge_checked(streak, ctx);
        }
    }

    /// The daemon cannot say who listens. The listeners that the kernel has reported decide.
    pub(super) fn on_port_check_overdue<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let Some(check) = &mut self.generation.port_check else { return };
        check.answer(self.listeners.is_open(check.port), ctx.now);
        let streak = check.streak.clone();
        self.judge_checked(streak, ctx);
    }

    fn judge_checked<E: Effects>(&mut self, streak: FailureStreak, ctx: &mut Ctx<'_, E>) {
        let is_free = matches!(self.recovery.state(), RecoveryState::Idle | RecoveryState::Verifying);
        if is_free && self.is_to_be_judged() && !self.is_at_rest() && !self.unit.is_between() {
            self.judge(streak, ctx);
        }
    }

    /// A probe was answered, or a listener came or went: the answer is out of date.
    pub(super) fn forget_port_check(&mut self) {
        self.generation.port_check = None;
        self.timers.clear(Timer::PortCheck);
    }
}
