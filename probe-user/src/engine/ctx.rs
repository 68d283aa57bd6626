//! An input of a service, and the context of its handlers.

use std::collections::BTreeMap;

use super::{
    effect::{Effect, Effects},
    host_budget::HostBudget,
    surroundings::Surroundings,
};
use crate::{
    clock::Timestamp,
    fact::{EventId, Fact, IncidentId, Observation, ServiceId},
};

#[derive(Debug)]
pub enum Input {
    Observation(Box<Observation>),
    /// A timer is due.
    Due,
    /// Its first start waits for other services. These are not up yet.
    Awaited(Vec<ServiceId>),
    /// The restart budget of all services has room again.
    HostBudgetHasRoom,
    /// The host lacks something that services need, or has it again.
    HostChanged,
    /// The state of a service that this one depends on has changed.
    DependencyChanged,
    /// Another service is held because of this one's incident.
    DependentHeld(ServiceId),
    /// It holds most connections of that other service, which has none left. With the reason for people.
    ExhaustsPool(ServiceId, String),
}

/// The context of one input: the time, the surroundings, and where facts and effects go.
pub struct Ctx<'a, E> {
    pub now: Timestamp,
    pub effects: &'a mut E,
    /// The number of the latest incident.
    pub incidents: &'a mut u64,
    pub names: &'a BTreeMap<ServiceId, String>,
    pub surroundings: Surroundings,
    /// Another service to restart instead of this one, and the reason.
    pub restart_other: Option<(ServiceId, String)>,
    /// The restart budget of all services together.
    pub host_budget: &'a mut HostBudget,
}

impl<E> Ctx<'_, E> {
    pub fn name(&self, service: ServiceId) -> &str {
        self.names.get(&service).map_or("", String::as_str)
    }
}

impl<E: Effects> Ctx<'_, E> {
    /// Publishes a fact of this moment.
    pub fn publish(&mut self, fact: Fact) -> EventId {
        self.effects.publish(fact, self.now)
    }

    pub fn request(&mut self, effect: Effect) {
        self.effects.request(effect);
    }

    pub fn next_incident(&mut self) -> IncidentId {
        *self.incidents += 1;
        IncidentId::new(*self.incidents)
    }
}
