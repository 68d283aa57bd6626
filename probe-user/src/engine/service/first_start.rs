//! The first start of a command that is to start after other services are healthy.

use super::model::{FIRST_START_MAX, RecoveryState, Service};
use crate::{
    engine::{budget::describe, ctx::Ctx, effect::Effects},
    fact::{Action, ServiceId, ServiceState},
};

impl Service {
    pub fn waits_to_start(&self) -> bool {
        matches!(self.recovery.state(), RecoveryState::WaitingToStart(_))
    }

    pub fn start_after(&self) -> &[ServiceId] {
        &self.settings.start_after
    }

    /// A reload has changed the services that it waits for. The engine checks them at once.
    pub(super) fn wait_for_others(&mut self) {
        if self.waits_to_start() {
            self.recovery.enter(RecoveryState::WaitingToStart(None));
        }
    }

    /// Whether services that start after it may start.
    pub fn is_up(&self) -> bool {
        matches!(self.state, ServiceState::Healthy | ServiceState::Degraded)
    }

    /// Some of the awaited services may be up by now; these are not.
    pub(super) fn on_awaited<E: Effects>(&mut self, down: &[ServiceId], ctx: &mut Ctx<'_, E>) {
        let RecoveryState::WaitingToStart(published) = self.recovery.state() else { return };
        if self.settings.start_after.is_empty() {
            return self.start_first("first start".to_owned(), ctx);
        }
        if down.is_empty() {
            let others = names(&self.settings.start_after, ctx);
            return self.start_first(format!("first start, after {others}"), ctx);
        }
        let others = names(down, ctx);
        if published.is_none() {
            let most = describe(FIRST_START_MAX);
            let why = format!("its first start waits for {others}, for {most} at most");
            self.publish_restart_for(why.clone(), Action::Hold(why), ctx);
        }
        self.recovery.enter(RecoveryState::WaitingToStart(Some(others)));
    }

    /// It has waited for long enough.
    pub(super) fn on_first_start_overdue<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let RecoveryState::WaitingToStart(others) = self.recovery.state() else { return };
        let others = others.clone().unwrap_or_else(|| names(&self.settings.start_after, ctx));
        let most = describe(FIRST_START_MAX);
        self.start_first(
            format!("first start, although within {most} these have not become healthy: {others}"),
            ctx,
        );
    }

    fn start_first<E: Effects>(&mut self, why: String, ctx: &mut Ctx<'_, E>) {
        self.request_restart(ctx);
        self.publish_restart_for(why, Action::Request, ctx);
    }
}

fn names<E>(services: &[ServiceId], ctx: &Ctx<'_, E>) -> String {
    let names: Vec<&str> = services.iter().map(|service| ctx.name(*service)).collect();
    names.join(", ")
}
