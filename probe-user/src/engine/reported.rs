//! Another host reports a service that services of this one connect to.

use super::{Engine, Input, effect::Effects, service::Service};
use crate::{clock::Timestamp, fact::ForeignService};

impl Engine {
    pub(super) fn on_foreign(&mut self, seen: ForeignService, now: Timestamp, effects: &mut impl Effects) {
        let ForeignService { id, name, clients, standing } = seen;
        if !id.is_foreign() {
            return;
        }
        self.names.insert(id, name);
        for client in clients.into_iter().filter(|client| self.services.contains_key(client)) {
            self.dependencies.learn(client, id);
        }
        self.fleet.note(id, standing, now);
        // A service without an incident is judged by its probes.
        let clients = self.dependencies.dependents(id);
        let held = self.services.values().filter(|service| {
            service.incident().is_some_and(|open| open.cause == id || clients.contains(&service.id()))
        });
        for client in held.map(Service::id).collect::<Vec<_>>() {
            self.handle(client, Input::DependencyChanged, now, effects);
        }
    }
}
