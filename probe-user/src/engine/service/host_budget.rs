//! Restarts that wait for the budget of all services together.

use super::model::{RecoveryState, Service};
use crate::{
    clock::Timestamp,
    engine::{ctx::Ctx, effect::Effects},
    fact::Action,
};

impl Service {
    /// Since when its restart waits for room in the budget of all services, if it does. Its unit may be inspected meanwhile.
    pub fn waits_for_host_budget(&self) -> Option<Timestamp> {
        let since = self.recovery.held_since();
        since.filter(|_| self.is_held_by_host_budget() || self.has_its_turn())
    }

    fn is_held_by_host_budget(&self) -> bool {
        matches!(self.recovery.state(), RecoveryState::AwaitingHostBudget)
    }

    /// Whether its turn has come, and systemd is asked about its unit before the restart.
    pub fn has_its_turn(&self) -> bool {
        let inspected =
            matches!(self.recovery.state(), RecoveryState::Inspecting(inspection) if inspection.retry);
        inspected && self.recovery.held_since().is_some()
    }

    /// Holds the restart until the budget of all services has room. Its place in the row stays.
    pub(super) fn await_host_budget<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let since = self.recovery.held_since();
        if since.is_none() || !ctx.host_budget.is_open() {
            let budget = ctx.host_budget.describe();
            let why =
                format!("the budget of {budget} restarts of all services is spent; it waits for its turn");
            let event = self.publish_restart(Action::Hold(why), ctx);
            ctx.host_budget.note_held(event);
        }
        self.recovery.set_held_since(since.or(Some(ctx.now)));
        self.enter(RecoveryState::AwaitingHostBudget, None);
    }

    /// Its turn has come. What held good for the decision may not hold any more.
    pub(super) fn on_host_budget_has_room<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if self.is_held_by_host_budget() {
            self.retry(ctx);
        }
    }
}
