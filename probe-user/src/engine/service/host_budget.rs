//! Restarts that wait for the budget of all services together.

use super::model::{RecoveryState, Service};
use crate::{
    clock::Timestamp,
    engine::{ctx::Ctx, effect::Effects},
    fact::Action,
};

impl Service {
    /// Since when its restart waits for room in the budget of all services, if it does.
    pub fn waits_for_host_budget(&self) -> Option<Timestamp> {
        if let RecoveryState::AwaitingHostBudget { since } = self.recovery.state() {
            Some(*since)
        } else {
            None
        }
    }

    /// Holds the restart until the budget of all services has room.
    pub(super) fn await_host_budget<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let budget = ctx.host_budget.describe();
        let why = format!("the budget of {budget} restarts of all services is spent; it waits for its turn");
        let event = self.publish_restart(Action::Hold(why), ctx);
        ctx.host_budget.note_held(event);
        self.enter(RecoveryState::AwaitingHostBudget { since: ctx.now }, None);
    }

    /// Its turn has come. What held good for the decision may not hold any more.
    pub(super) fn on_host_budget_has_room<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if self.waits_for_host_budget().is_some() {
            self.retry(ctx);
        }
    }
}
