//! Whether a drill may begin.

use super::{Engine, service::dependency_obstacle};
use crate::{
    clock::Timestamp,
    fact::{DrillFault, ServiceId},
};

impl Engine {
    /// Why a drill of a service is refused, and what to do; None if it may begin.
    pub fn drill_obstacle(&mut self, id: ServiceId, fault: DrillFault, now: Timestamp) -> Option<String> {
        if let Some(other) = self.services.values().find(|service| service.is_in_drill()) {
            let name = self.names.get(&other.id()).cloned().unwrap_or_default();
            return Some(format!(
                "a drill of {name} is under way, and there is one at a time; wait until it is over"
            ));
        }
        if self.own_trouble.is_open() {
            return Some(
                "hostprobe itself is impaired (agent_impaired); `hostprobe incidents` shows what it lacks"
                    .to_owned(),
            );
        }
        let surroundings = self.surroundings(id, now);
        let service = self.services.get_mut(&id)?;
        let own = service
            .drill_obstacle(fault, now)
            .or_else(|| service.budget_obstacle(&mut self.host_budget, now));
        own.or_else(|| {
            dependency_obstacle(&surroundings, |id| self.names.get(&id).cloned().unwrap_or_default())
        })
    }

    /// Whether a drill of the service is under way.
    pub fn is_in_drill(&self, id: ServiceId) -> bool {
        self.service(id).is_some_and(|service| service.is_in_drill())
    }
}
