//! The services' dependencies: declared in the configuration, or learned from connections.

use std::collections::{BTreeMap, BTreeSet};

use crate::{config, fact::ServiceId};

/// Bounded by the pairs of services.
#[derive(Debug, Default)]
pub(super) struct Dependencies {
    /// For each service, what it depends on, and whether that was declared.
    of: BTreeMap<ServiceId, BTreeMap<ServiceId, bool>>,
    /// For each service, those that depend on it.
    dependents: BTreeMap<ServiceId, BTreeSet<ServiceId>>,
}

impl Dependencies {
    pub(super) fn declared(services: &[config::Service]) -> Self {
        let mut dependencies = Self::default();
        for (client, service) in (0..).map(ServiceId).zip(services) {
            for &server in &service.depends_on {
                dependencies.add(client, server, true);
            }
        }
        dependencies
    }

    /// Notes a connection from `client` to `server`.
    pub(super) fn learn(&mut self, client: ServiceId, server: ServiceId) {
        if !self.of(client).any(|(known, _)| known == server) {
            self.add(client, server, false);
        }
    }

    fn add(&mut self, client: ServiceId, server: ServiceId, declared: bool) {
        if client != server {
            self.of.entry(client).or_default().insert(server, declared);
            self.dependents.entry(server).or_default().insert(client);
        }
    }

    /// What a service depends on directly, and whether that was declared.
    pub(super) fn of(&self, client: ServiceId) -> impl Iterator<Item = (ServiceId, bool)> + '_ {
        self.of.get(&client).into_iter().flatten().map(|(server, declared)| (*server, *declared))
    }

    /// The direct dependents of a service.
    pub(super) fn dependents(&self, server: ServiceId) -> Vec<ServiceId> {
        self.dependents.get(&server).into_iter().flatten().copied().collect()
    }

    /// Whether `client` depends on `server`, directly or not.
    pub(super) fn reaches(&self, client: ServiceId, server: ServiceId) -> bool {
        let mut seen = BTreeSet::from([client]);
        let mut open = vec![client];
        while let Some(next) = open.pop() {
            for (found, _) in self.of(next) {
                if found == server {
                    return true;
                }
                if seen.insert(found) {
                    open.push(found);
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: ServiceId = ServiceId(0);
    const API: ServiceId = ServiceId(1);
    const DB: ServiceId = ServiceId(2);

    #[test]
    fn dependencies_reach_through_others_and_in_circles() {
        let mut dependencies = Dependencies::default();
        dependencies.learn(WEB, API);
        dependencies.learn(API, DB);
        dependencies.learn(DB, API);
        dependencies.learn(DB, DB);
        assert!(dependencies.reaches(WEB, DB));
        assert!(dependencies.reaches(API, API));
        assert!(!dependencies.reaches(DB, WEB));
        assert_eq!(dependencies.dependents(API), [WEB, DB]);
    }

    #[test]
    fn a_declared_dependency_stays_declared_when_it_is_learned() {
        let mut dependencies = Dependencies::default();
        dependencies.add(WEB, DB, true);
        dependencies.learn(WEB, DB);
        assert_eq!(dependencies.of(WEB).collect::<Vec<_>>(), [(DB, true)]);
    }
}
