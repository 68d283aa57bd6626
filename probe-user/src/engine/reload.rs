//! A reload of the configuration: services come, change and go.

use super::{
    Engine, Input,
    effect::{Effect, Effects},
    service::Service,
};
use crate::{
    clock::Timestamp,
    fact::{Observation, ServiceId, ServiceSettings},
};

impl Engine {
    /// Begins to watch a service at `now`.
    pub(super) fn add(&mut self, id: ServiceId, settings: &ServiceSettings, now: Timestamp) {
        self.names.insert(id, settings.name.clone());
        self.dependencies.declare(id, &settings.depends_on);
        let service = Service::new(id, settings, self.observe, now);
        self.probed += usize::from(service.has_probes());
        if service.waits_to_start() {
            self.to_start.insert(id);
        }
        self.services.insert(id, service);
    }

    /// A reload added a service or changed its settings.
    pub(super) fn configure(
        &mut self,
        id: ServiceId,
        settings: Box<ServiceSettings>,
        now: Timestamp,
        effects: &mut impl Effects,
    ) {
        if !self.services.contains_key(&id) {
            return self.add(id, &settings, now);
        }
        self.dependencies.declare(id, &settings.depends_on);
        let configured = Observation::Configured(id, settings);
        self.handle(id, Input::Observation(Box::new(configured)), now, effects);
        self.count_probed();
    }

    /// A reload removed a service. Its incident ends, and services that waited for it go on.
    pub(super) fn remove(&mut self, id: ServiceId, now: Timestamp, effects: &mut impl Effects) {
        self.handle(id, Input::Observation(Box::new(Observation::Removed(id))), now, effects);
        let dependents = self.dependencies.dependents(id);
        self.dependencies.remove(id);
        self.overload.note(id, false, now);
        self.own_trouble.remove(id, now);
        self.services.remove(&id);
        self.to_start.remove(&id);
        self.names.remove(&id);
        self.count_probed();
        effects.request(Effect::KeepMemory { service: id, memory: Box::default() });
        for dependent in dependents {
            self.handle(dependent, Input::DependencyChanged, now, effects);
        }
    }

    fn count_probed(&mut self) {
        self.probed = self.services.values().filter(|service| service.has_probes()).count();
    }
}
