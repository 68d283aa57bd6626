//! An incident of hostprobe itself: it alerts at once, and is over when its cause is.

use std::time::Duration;

use super::effect::{Effect, Effects};
use crate::{
    clock::Timestamp,
    fact::{Earlier, Fact, Incident, IncidentId, Phase, ServiceId, Severity, Timing, Verdict},
};

#[derive(Debug, Default)]
pub struct OwnIncident(Option<Incident>);

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
            drill: None,
            earlier: Earlier::default(),
        }
    }

    pub fn get_mut(&mut self) -> Option<&mut Incident> {
        self.0.as_mut()
    }

    pub fn is_open(&self) -> bool {
        self.0.is_some()
    }

    pub fn open(&mut self, incident: Incident, now: Timestamp, effects: &mut impl Effects) {
        effects.publish(Fact::Incident(Phase::Open, incident.clone()), now);
        effects.request(Effect::Alert { incident: incident.clone(), resolved: false });
        self.0 = Some(incident);
    }

    /// Publishes what has changed in the open incident.
    pub fn update(&mut self, now: Timestamp, effects: &mut impl Effects) {
        if let Some(open) = &self.0 {
            effects.publish(Fact::Incident(Phase::Update, open.clone()), now);
        }
    }

    pub fn resolve(&mut self, now: Timestamp, effects: &mut impl Effects) {
        let Some(mut over) = self.0.take() else { return };
        over.timing.healthy = Some(now.since(over.since));
        effects.publish(Fact::Incident(Phase::Resolve, over.clone()), now);
        effects.request(Effect::Alert { incident: over, resolved: true });
    }
}
