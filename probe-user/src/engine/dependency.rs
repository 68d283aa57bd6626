//! The services' dependencies: declared in the configuration, or learned from connections.

use std::collections::{BTreeMap, BTreeSet};

use crate::fact::ServiceId;

/// Bounded by the pairs of services.
#[derive(Debug, Default)]
pub(super) struct Dependencies {
    /// For each service, what it depends on.
    of: BTreeMap<ServiceId, BTreeMap<ServiceId, Edge>>,
    /// For each service, those that depend on it.
    dependents: BTreeMap<ServiceId, BTreeSet<ServiceId>>,
}

/// How the engine knows of a dependency.
#[derive(Debug, Default)]
struct Edge {
    declared: bool,
    learned: bool,
}

impl Dependencies {
    /// Sets the dependencies that the configuration declares for a service. What was learned stays.
    pub(super) fn declare(&mut self, client: ServiceId, servers: &[ServiceId]) {
        let of_client = self.of.entry(client).or_default();
        for edge in of_client.values_mut() {
            edge.declared = false;
        }
        for &server in servers.iter().filter(|server| **server != client) {
            of_client.entry(server).or_default().declared = true;
            self.dependents.entry(server).or_default().insert(client);
        }
        let gone: Vec<ServiceId> = of_client
            .extract_if(.., |_, edge| !edge.declared && !edge.learned)
            .map(|(server, _)| server)
            .collect();
        for server in gone {
            self.remove_dependent(server, client);
        }
    }

    /// Forgets a service.
    pub(super) fn remove(&mut self, service: ServiceId) {
        for server in self.of.remove(&service).unwrap_or_default().into_keys() {
            self.remove_dependent(server, service);
        }
        for client in self.dependents.remove(&service).unwrap_or_default() {
            if let Some(of_client) = self.of.get_mut(&client) {
                of_client.remove(&service);
            }
        }
    }

    fn remove_dependent(&mut self, server: ServiceId, client: ServiceId) {
        if let Some(dependents) = self.dependents.get_mut(&server) {
            dependents.remove(&client);
        }
    }

    /// Notes a connection from `client` to `server`.
    pub(super) fn learn(&mut self, client: ServiceId, server: ServiceId) {
        if client != server {
            self.of.entry(client).or_default().entry(server).or_default().learned = true;
            self.dependents.entry(server).or_default().insert(client);
        }
    }

    /// What a service depends on directly, and whether that was declared.
    pub(super) fn of(&self, client: ServiceId) -> impl Iterator<Item = (ServiceId, bool)> + '_ {
        self.of.get(&client).into_iter().flatten().map(|(server, edge)| (*server, edge.declared))
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
        dependencies.declare(WEB, &[DB]);
        dependencies.learn(WEB, DB);
        assert_eq!(dependencies.of(WEB).collect::<Vec<_>>(), [(DB, true)]);
    }

    #[test]
    fn what_a_reload_does_not_declare_any_more_stays_if_it_was_learned() {
        let mut dependencies = Dependencies::default();
        dependencies.declare(WEB, &[API, DB]);
        dependencies.learn(WEB, API);
        dependencies.declare(WEB, &[]);
        assert_eq!(dependencies.of(WEB).collect::<Vec<_>>(), [(API, false)]);
        assert_eq!(dependencies.dependents(DB), []);
        dependencies.remove(API);
        assert_eq!(dependencies.of(WEB).count(), 0);
        assert!(!dependencies.reaches(WEB, API));
    }
}
