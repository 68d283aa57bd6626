//! Who holds what the service, or its clients, cannot get: its port, its connections.

use std::time::Duration;

use super::{Fault, Service, Step};
use crate::{
    config::Response,
    engine::{Effect, Outbox, Turn, verdict},
    fact::{Fact, Holder, Phase, PortHolder, ServiceId, Verdict},
};

/// How long the search for a port's holder may take.
const SEARCH: Duration = Duration::from_millis(500);

/// The most holders of connections that are named.
const NAMED: usize = 3;

impl Service {
    /// It ended with an error soon after its start: is its port taken?
    pub(super) fn find_port_holder<O: Outbox>(&mut self, fault: Fault, turn: &mut Turn<'_, O>) {
        let ports = self.ports.iter().copied().collect();
        turn.act(Effect::FindPortHolder { service: self.id, ports });
        self.step = Step::FindPortHolder { until: turn.now.plus(SEARCH), fault: Box::new(fault) };
    }

    /// Who listens on its port, if anybody does.
    pub(super) fn port_holder<O: Outbox>(&mut self, holder: Option<&PortHolder>, turn: &mut Turn<'_, O>) {
        if !matches!(self.step, Step::FindPortHolder { .. }) {
            return;
        }
        let Step::FindPortHolder { mut fault, .. } = std::mem::replace(&mut self.step, Step::Idle) else {
            return;
        };
        fault.young = false;
        self.port_taken = holder.is_some();
        if let Some(holder) = holder {
            let whose =
                holder.service.map_or_else(String::new, |service| format!(" of {}", turn.name(service)));
            fault.finding.summary.push_str(&format!("; {}{whose}", verdict::port_words(holder)));
        }
        self.fail(*fault, turn);
    }

    /// Its connections are exhausted: who has them?
    pub(super) fn seek_holders<O: Outbox>(&mut self, turn: &mut Turn<'_, O>) {
        if self.holders.is_empty() {
            let ports = self.ports.iter().copied().collect();
            turn.act(Effect::FindHolders { service: self.id, ports });
        } else {
            self.name_holders(turn);
        }
    }

    /// Who has its connections, by the sockets of this host.
    pub(super) fn found_holders<O: Outbox>(&mut self, holders: Vec<Holder>, turn: &mut Turn<'_, O>) {
        if self.holders.is_empty() {
            // Its own processes talk to each other, too.
            self.holders = holders.into_iter().filter(|holder| holder.service != Some(self.id)).collect();
            self.name_holders(turn);
        }
    }

    /// Names them in the incident; if that is the policy, the service that holds most is to be restarted.
    fn name_holders<O: Outbox>(&mut self, turn: &mut Turn<'_, O>) {
        let Some(open) = self.incident.as_mut() else { return };
        if open.incident.verdict != Verdict::PoolExhausted || self.holders.is_empty() {
            return;
        }
        let words =
            |holder: &Holder| verdict::holder_words(holder, holder.service.map(|service| turn.name(service)));
        let named: Vec<_> = self.holders.iter().take(NAMED).map(words).collect();
        let summary = open.incident.summary.split("; most are held: ").next().unwrap_or_default();
        open.incident.summary = format!("{summary}; most are held: {}", named.join("; "));
        turn.emit(Fact::Incident(Phase::Update, open.incident.clone()));
        if !open.alerted {
            self.alert_now(turn);
        }
        let most = self.holders.first().and_then(|holder| Some((holder.service?, holder.connections)));
        if let (Response::Restart, Some((service, connections))) = (self.response.pool_exhausted, most)
            && service != self.id
        {
            let name = turn.name(self.id);
            turn.restart_other =
                Some((service, format!("it holds {connections} connections of {name}, which has none left")));
        }
    }

    /// It holds more than its share of something that another service has.
    pub(super) fn holds_too_much<O: Outbox>(&mut self, of: ServiceId, why: String, turn: &mut Turn<'_, O>) {
        if self.incident.is_none() {
            let finding = verdict::Finding { verdict: Verdict::PoolExhausted, confidence: 0.9, summary: why };
            // Somebody is told of the one that has none left.
            let fault = Fault { cause: Some(of), untold: true, ..Fault::now(turn.now, finding) };
            self.fail_alive(fault, turn);
        }
    }
}
