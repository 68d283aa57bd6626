//! The user's own programs: what runs before a restart, and the reports of all runs.

use super::{
    Daemon,
    executor::{Outcome, Prepared},
};
use crate::{
    clock::Timestamp,
    engine::Effect,
    fact::{Fact, HookCall, HookEvent, HookRun, ServiceId},
};

impl Daemon {
    pub fn on_hook_run(&mut self, run: HookRun) {
        self.publisher.publish(Fact::Hook(run), Timestamp::now());
    }

    /// Starts what is to run before a restart, if this is one. The restart follows it, whatever its outcome.
    pub(super) fn waits_for_hooks(&mut self, effect: &Effect) -> bool {
        if let Effect::Stop(service) = effect {
            self.executor.prepared.remove(service);
        }
        let (Effect::Restart { service: id, .. }, Some(hooks)) = (effect, &self.executor.hooks) else {
            return false;
        };
        if let Some(prepared) = self.executor.prepared.get_mut(id) {
            prepared.restart = effect.clone();
            return true;
        }
        let Some(service) = self.config.service(*id) else { return false };
        let incident = self.engine.incident(*id);
        let call =
            HookCall { event: HookEvent::RestartBefore, service: *id, incident: incident.map(Box::new) };
        let Some(programs) = hooks.before(call, service, &self.executor.names) else { return false };
        self.preparations += 1;
        let (id, number) = (*id, self.preparations);
        self.executor.prepared.insert(id, Prepared { number, restart: effect.clone() });
        self.executor.outcomes.spawn(async move {
            programs.await;
            Outcome::Prepared(id, number)
        });
        true
    }

    /// What was to run before a restart has ended. Meanwhile the service may have been stopped, or has started by itself.
    pub(super) fn on_prepared(&mut self, service: ServiceId, number: u64) {
        if self.executor.prepared.get(&service).is_none_or(|prepared| prepared.number != number) {
            return;
        }
        let Some(Prepared { restart, .. }) = self.executor.prepared.remove(&service) else { return };
        if !self.stopping && self.engine.awaits_restart(service) {
            self.executor.execute(restart, &self.config, &self.enricher);
        }
    }
}
