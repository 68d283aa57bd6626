//! One input of one service, and what its handlers may reach.

use super::{
    effect::{Effect, Effects},
    surroundings::Surroundings,
};
use crate::{
    clock::Timestamp,
    fact::{EventId, Fact, IncidentId, Observation, ServiceId},
};

/// What a service has to work on.
#[derive(Debug)]
pub enum Input {
    Observation(Box<Observation>),
    /// A timer is due.
    Due,
    /// The state of a service that this one depends on has changed.
    DependencyChanged,
    /// Another service's incident is held because of this one's.
    DependentHeld(ServiceId),
    /// It holds most connections of that other service, which has none left. Says so in words.
    ExhaustsPool(ServiceId, String),
}

/// The context of one input: the time, the surroundings, and where facts and effects go.
pub struct Ctx<'a, E> {
    pub now: Timestamp,
    pub effects: &'a mut E,
    /// The number of the latest incident.
    pub incidents: &'a mut u64,
    /// The services' names in the order of their ids.
    pub names: &'a [String],
    pub surroundings: Surroundings,
    /// A service to restart for the sake of this one, and why.
    pub restart_other: Option<(ServiceId, String)>,
}

impl<E> Ctx<'_, E> {
    pub fn name(&self, service: ServiceId) -> &str {
        self.names.get(service.0 as usize).map_or("", String::as_str)
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
        IncidentId(*self.incidents)
    }
}
