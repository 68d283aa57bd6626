//! The holders of its port and of its connections.

use std::time::Duration;

use super::model::{Fault, RecoveryState, Service};
use crate::{
    config::Response,
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        rules::Extra,
        verdict::{self, Finding},
    },
    fact::{Fact, Holder, Phase, PortHolder, ServiceId, Verdict},
};

/// The time limit of the search for a port's holder.
const SEARCH: Duration = Duration::from_millis(500);

/// The number of holders that an incident names.
const NAMED: usize = 3;

impl Service {
    /// It exited with an error soon after its start, so another process may have its port.
    pub(super) fn find_port_holder<E: Effects>(&mut self, fault: Fault, ctx: &mut Ctx<'_, E>) {
        let ports = self.listeners.expected();
        ctx.request(Effect::FindPortHolder { service: self.settings.id, ports });
        self.enter(RecoveryState::FindingPortHolder(Box::new(fault)), Some(ctx.now.plus(SEARCH)));
    }

    pub(super) fn on_port_holder<E: Effects>(&mut self, holder: Option<&PortHolder>, ctx: &mut Ctx<'_, E>) {
        if !matches!(self.recovery.state(), RecoveryState::FindingPortHolder(_)) {
            return;
        }
        let RecoveryState::FindingPortHolder(mut fault) = self.enter(RecoveryState::Idle, None) else {
            return;
        };
        fault.early_exit = false;
        self.recovery.set_port_taken(holder.is_some());
        if let Some(holder) = holder {
            let whose =
                holder.service.map_or_else(String::new, |service| format!(" of {}", ctx.name(service)));
            fault.finding.summary.add(format!("{}{whose}", verdict::port_words(holder)));
        }
        self.fail(*fault, ctx);
    }

    /// Searches the holders of its connections, which are exhausted.
    pub(super) fn find_connection_holders<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if self.holders.is_empty() {
            let ports = self.listeners.expected();
            ctx.request(Effect::FindHolders { service: self.settings.id, ports });
        } else {
            self.name_holders(ctx);
        }
    }

    /// The holders of its connections, by the sockets of this host.
    pub(super) fn on_holders<E: Effects>(&mut self, holders: Vec<Holder>, ctx: &mut Ctx<'_, E>) {
        if self.holders.is_empty() {
            // Its own processes connect to each other too.
            self.holders =
                holders.into_iter().filter(|holder| holder.service != Some(self.settings.id)).collect();
            self.name_holders(ctx);
        }
    }

    /// Names the holders in the incident. By policy, requests a restart of the service that holds most.
    fn name_holders<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let Some(open) = self.incident.as_mut() else { return };
        if open.rule().extra != Extra::Holders || self.holders.is_empty() {
            return;
        }
        let words =
            |holder: &Holder| verdict::holder_words(holder, holder.service.map(|service| ctx.name(service)));
        let named: Vec<_> = self.holders.iter().take(NAMED).map(words).collect();
        open.set_holders(named);
        ctx.publish(Fact::Incident(Phase::Update, open.published()));
        if !open.alerted() {
            self.alert_now(ctx);
        }
        let most = self.holders.first().and_then(|holder| Some((holder.service?, holder.connections)));
        if let (Response::Restart, Some((service, connections))) = (self.settings.policy.pool_exhausted, most)
            && service != self.settings.id
        {
            let name = ctx.name(self.settings.id);
            ctx.restart_other =
                Some((service, format!("it holds {connections} connections of {name}, which has none left")));
        }
    }

    /// It holds most connections of another service.
    pub(super) fn on_exhausts_pool<E: Effects>(&mut self, of: ServiceId, why: String, ctx: &mut Ctx<'_, E>) {
        if self.incident.is_none() {
            let finding = Finding { verdict: Verdict::PoolExhausted, confidence: 0.9, summary: why.into() };
            // The incident of the other service alerts.
            let fault = Fault { cause: Some(of), cause_alerts: true, ..Fault::now(ctx.now, finding) };
            self.fail_alive(fault, ctx);
        }
    }
}
