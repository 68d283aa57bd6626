//! What a service logged before its fault: evidence for a person, on which nothing is decided.

use super::model::{Service, Timer};
use crate::{
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        rules::{self, DefaultAction},
    },
    fact::{Fact, Phase, Verdict},
};

impl Service {
    /// Whether the last lines of its log may explain a fault with this verdict.
    pub(super) fn log_explains(&self, verdict: Verdict) -> bool {
        let is_own_end =
            rules::of(verdict).action == DefaultAction::Restart || verdict == Verdict::StartFailed;
        let is_known = !self.settings.is_unit || self.unit.invocation().is_some();
        self.settings.has_log && is_known && is_own_end
    }

    /// Asks for the lines that the failed run logged.
    pub(super) fn read_log<E: Effects>(&self, ctx: &mut Ctx<'_, E>) {
        let invocation = self.unit.invocation().filter(|_| self.settings.is_unit).map(str::to_owned);
        ctx.request(Effect::ReadLog { service: self.settings.id, invocation });
    }

    /// The lines came. An alert that waited for them is due.
    pub(super) fn on_log_lines<E: Effects>(&mut self, lines: Vec<String>, ctx: &mut Ctx<'_, E>) {
        let Some(open) = &mut self.incident else { return };
        if !lines.is_empty() {
            open.set_logs(lines);
            ctx.publish(Fact::Incident(Phase::Update, open.published()));
        }
        if open.take_awaits_log() && self.timers.get(Timer::Alert).is_some() {
            self.alert_now(ctx);
        }
    }
}
