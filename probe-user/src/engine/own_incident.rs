//! An incident of hostprobe itself or of the host: it alerts at once, and is over when its cause is.

use std::time::Duration;

use super::effect::{Effect, Effects};
use crate::{
    clock::Timestamp,
    fact::{
        Earlier, Fact, Incident, IncidentId, Memory, Phase, RememberedIncident, ServiceId, Severity, Timing,
        Verdict,
    },
};

#[derive(Debug, Default)]
pub struct OwnIncident {
    open: Option<Incident>,
    /// It was opened or resolved, and the daemon is to keep that.
    is_changed: bool,
}

impl OwnIncident {
    /// The next incident, whose cause is known at once.
    pub fn next(verdict: Verdict, summary: String, now: Timestamp, incidents: &mut u64) -> Incident {
        *incidents += 1;
        let timing =
            Timing { detected: Some(Duration::ZERO), decided: Some(Duration::ZERO), ..Timing::default() };
        Incident {
            id: IncidentId::new(*incidents),
            service: ServiceId::DAEMON,
            verdict,
            confidence: 1.0,
            summary,
            severity: Severity::Critical,
            cause: ServiceId::DAEMON,
            evidence: Vec::new(),
            held: Vec::new(),
            since: now,
            timing,
            attempts: 0,
            snapshot: None,
            context: Default::default(),
            drill: None,
            host: None,
            earlier: Earlier::default(),
        }
    }

    /// Takes up an incident of an earlier run of the daemon.
    pub fn of_earlier_run(incident: Incident) -> Self {
        Self { open: Some(incident), is_changed: false }
    }

    pub fn get(&self) -> Option<&Incident> {
        self.open.as_ref()
    }

    pub fn get_mut(&mut self) -> Option<&mut Incident> {
        self.open.as_mut()
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub fn open(&mut self, incident: Incident, now: Timestamp, effects: &mut impl Effects) {
        effects.publish(Fact::Incident(Phase::Open, incident.clone()), now);
        effects.request(Effect::Alert { incident: incident.clone(), resolved: false });
        (self.open, self.is_changed) = (Some(incident), true);
    }

    /// Publishes what has changed in the open incident.
    pub fn update(&mut self, now: Timestamp, effects: &mut impl Effects) {
        if let Some(open) = &self.open {
            effects.publish(Fact::Incident(Phase::Update, open.clone()), now);
        }
    }

    pub fn resolve(&mut self, now: Timestamp, effects: &mut impl Effects) {
        let Some(mut over) = self.open.take() else { return };
        self.is_changed = true;
        over.timing.healthy = Some(now.since(over.since));
        effects.publish(Fact::Incident(Phase::Resolve, over.clone()), now);
        effects.request(Effect::Alert { incident: over, resolved: true });
    }
}

/// Has the daemon keep those that are open, so that a later run can end them.
pub fn keep_changes<const N: usize>(own: [&mut OwnIncident; N], effects: &mut impl Effects) {
    if !own.iter().any(|incident| incident.is_changed) {
        return;
    }
    let mut open = own.into_iter().filter_map(|incident| {
        incident.is_changed = false;
        incident.open.clone().map(RememberedIncident::alerted)
    });
    let memory = Memory { incident: open.next(), further: open.collect(), ..Memory::default() };
    effects.request(Effect::KeepMemory { service: ServiceId::DAEMON, memory: Box::new(memory) });
}
