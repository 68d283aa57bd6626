//! What a person wants to know of a fault: the last lines of the log, and what was changed before. Nothing is decided on it.

use super::model::{Service, Timer};
use crate::{
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        rules::{self, DefaultAction},
    },
    fact::{Fact, FaultContext, HangStacks, Phase, Verdict},
};

impl Service {
    /// Whether a fault with this verdict may be explained by what the service logged, or by what was changed of it.
    pub(super) fn has_context(&self, verdict: Verdict) -> bool {
        let is_own_end =
            rules::of(verdict).action == DefaultAction::Restart || verdict == Verdict::StartFailed;
        !self.settings.is_remote && is_own_end
    }

    /// Asks for the context of the open incident.
    pub(super) fn gather_context<E: Effects>(&self, for_memory: bool, ctx: &mut Ctx<'_, E>) {
        let Some(open) = &self.incident else { return };
        let invocation = self.unit.invocation().filter(|_| self.settings.is_unit).map(str::to_owned);
        ctx.request(Effect::GatherContext {
            service: self.settings.id,
            invocation,
            since: open.since(),
            for_memory,
        });
    }

    /// What the threads wait for came. The end of the snapshot, which follows, publishes it.
    pub(super) fn on_stacks(&mut self, stacks: HangStacks) {
        if let Some(open) = &mut self.incident {
            open.set_stacks(stacks);
        }
    }

    /// The context came. An alert that waited for it is due.
    pub(super) fn on_context<E: Effects>(&mut self, context: FaultContext, ctx: &mut Ctx<'_, E>) {
        self.timers.clear(Timer::ContextDue);
        let Some(open) = &mut self.incident else { return };
        if context != FaultContext::default() {
            open.set_context(context);
            ctx.publish(Fact::Incident(Phase::Update, open.published()));
        }
        if open.take_awaits_context() && self.timers.get(Timer::Alert).is_some() {
            self.alert_now(ctx);
        }
    }
}
