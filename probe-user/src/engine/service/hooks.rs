//! Calls of the user's own programs. As alerts, they wait for the end of a pause.

use super::model::{OpenIncident, Service};
use crate::{
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
    },
    fact::{HookCall, HookEvent, Incident},
};

impl Service {
    /// Calls the hooks for an incident that is new, or has another verdict.
    pub(super) fn call_hooks<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if self.is_paused() {
            return;
        }
        let Some(open) = &mut self.incident else { return };
        if open.is_of_earlier_run() && open.was_called() {
            // A program that acts on an incident must not act twice.
            return;
        }
        if open.set_called() {
            let call = of_incident(HookEvent::IncidentOpen, open);
            ctx.request(Effect::CallHooks(call));
        }
    }

    /// Calls the hooks for the end of an incident. In a pause, only those for whom it began.
    pub(super) fn call_hooks_at_end<E: Effects>(&self, open: &OpenIncident, ctx: &mut Ctx<'_, E>) {
        if open.was_called() {
            ctx.request(Effect::CallHooks(of_incident(HookEvent::IncidentResolve, open)));
        }
    }

    /// Calls the hooks after a restart, with the incident that it was to mend.
    pub(super) fn call_hooks_after_restart<E: Effects>(
        &self,
        incident: Option<Box<Incident>>,
        ctx: &mut Ctx<'_, E>,
    ) {
        let call = HookCall { event: HookEvent::RestartAfter, service: self.settings.id, incident };
        ctx.request(Effect::CallHooks(call));
    }
}

fn of_incident(event: HookEvent, open: &OpenIncident) -> HookCall {
    let incident = open.published();
    HookCall { event, service: incident.service, incident: Some(Box::new(incident)) }
}
