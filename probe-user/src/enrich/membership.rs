//! Which process belongs to which service: by cgroup, else by birth, else by descent from its main process.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
};

use super::{Table, groups::Home};
use crate::{
    config::{Identity, Probe, Service},
    fact::{Membership, ProcessKey, ServiceId},
    sensor::record::Cgroups,
    stacks::ServiceNames,
};

/// How many ancestors are tried in search of a main process.
pub(super) const MAX_GENERATIONS: usize = 16;

/// The lineage of a service's main process. 0 is none.
pub(super) fn lineage_of(service: ServiceId) -> u32 {
    service.0 + 1
}

pub(super) fn service_of(lineage: u32) -> Option<ServiceId> {
    lineage.checked_sub(1).map(ServiceId)
}

#[derive(Debug, Default)]
pub struct Members {
    mains: HashMap<ServiceId, ProcessKey>,
    /// Where the latest main process of a service was when it was found.
    homes: HashMap<ServiceId, Home>,
    /// The services whose main process has a pid: several, where one process does several things.
    by_pid: HashMap<u32, Vec<ServiceId>>,
    cgroups: HashMap<u64, ServiceId>,
    ports: HashMap<ServiceId, BTreeSet<u16>>,
    /// The service that last listened on a port.
    serving: HashMap<u16, ServiceId>,
    /// Services that are not on this host.
    elsewhere: HashMap<SocketAddr, ServiceId>,
}

impl Members {
    /// Sets where a service is expected to listen.
    pub fn expect(&mut self, service: &Service) {
        self.expect_ports(service.id, service.local_ports());
        if service.identity == Identity::Remote {
            self.expect_elsewhere(service.id, service.probes.iter().flat_map(Probe::addresses).collect());
        }
    }

    pub fn expect_ports(&mut self, service: ServiceId, ports: BTreeSet<u16>) {
        self.ports.insert(service, ports);
    }

    /// Sets the addresses of a service without a process on this host.
    pub fn expect_elsewhere(&mut self, service: ServiceId, addresses: BTreeSet<SocketAddr>) {
        self.elsewhere.extend(addresses.into_iter().map(|address| (address, service)));
    }

    /// Forgets what a service is expected to listen on and to be elsewhere.
    pub fn expect_nothing(&mut self, service: ServiceId) {
        self.ports.remove(&service);
        self.elsewhere.retain(|_, other| *other != service);
    }

    /// Forgets a service without a main process. Returns its cgroups.
    pub fn remove(&mut self, service: ServiceId) -> Vec<u64> {
        self.expect_nothing(service);
        self.homes.remove(&service);
        self.serving.retain(|_, other| *other != service);
        self.remove_cgroups(service)
    }

    /// The service without a process on this host at an address.
    pub fn elsewhere(&self, address: SocketAddr) -> Option<ServiceId> {
        self.elsewhere.get(&address).copied()
    }

    /// A service listens on a port. The port stays the service's after the listener closed, until another service
    /// listens there: a client that is refused wanted this service.
    pub fn serves(&mut self, service: ServiceId, port: u16) {
        self.serving.insert(port, service);
    }

    /// The service whose port it is: the last that listened there, else the first that is expected to.
    pub fn serving(&self, port: u16) -> Option<ServiceId> {
        let expected =
            self.ports.iter().filter(|(_, ports)| ports.contains(&port)).map(|(service, _)| *service);
        self.serving.get(&port).copied().or_else(|| expected.min())
    }

    /// The names of all services by where they are, on this host and elsewhere.
    pub fn addresses(&self, name: impl Fn(ServiceId) -> String) -> ServiceNames {
        let ports = self.serving.keys().chain(self.ports.values().flatten());
        let here = ports.filter_map(|port| Some((*port, name(self.serving(*port)?)))).collect();
        let elsewhere = self.elsewhere.iter().map(|(address, service)| (*address, name(*service))).collect();
        ServiceNames { elsewhere, here }
    }

    /// The ports that services are expected to listen on.
    pub fn expected_ports(&self) -> BTreeSet<u16> {
        self.ports.values().flatten().copied().collect()
    }

    /// Sets a service's main process. Returns the pid of the one before, if it is no service's main process any more.
    pub fn set_main(&mut self, service: ServiceId, main: Option<ProcessKey>) -> Option<u32> {
        // The first of several services stays the first.
        if main.is_some() && main == self.main_of(service) {
            return None;
        }
        let before = self.mains.remove(&service).map(|key| key.pid);
        if let Some(services) = before.and_then(|pid| self.by_pid.get_mut(&pid)) {
            services.retain(|other| *other != service);
        }
        if let Some(main) = main {
            self.mains.insert(service, main);
            self.by_pid.entry(main.pid).or_default().push(service);
        }
        let gone = before.filter(|pid| self.by_pid.get(pid).is_none_or(Vec::is_empty))?;
        self.by_pid.remove(&gone);
        Some(gone)
    }

    /// Sets the unit and container of a service's main process. Descendants in other ones do not belong to the service.
    pub fn set_home(&mut self, service: ServiceId, home: Home) {
        self.homes.insert(service, home);
    }

    /// Whether a process with such cgroups belongs to another unit or container than a service.
    pub fn is_away(&self, service: ServiceId, home: &Home) -> bool {
        self.homes.get(&service).is_some_and(|own| home.is_away_from(own))
    }

    /// The service that stands for all that have a pid's process as their main one.
    pub fn head(&self, pid: u32) -> Option<ServiceId> {
        self.by_pid.get(&pid).and_then(|services| services.first()).copied()
    }

    pub fn main_of(&self, service: ServiceId) -> Option<ProcessKey> {
        self.mains.get(&service).copied()
    }

    pub fn main_with(&self, pid: u32) -> Option<ProcessKey> {
        self.main_of(*self.by_pid.get(&pid)?.first()?)
    }

    /// All services with a main process, in order.
    pub fn mains(&self) -> Vec<(ServiceId, ProcessKey)> {
        let mut mains: Vec<_> = self.mains.iter().map(|(service, main)| (*service, *main)).collect();
        mains.sort_unstable_by_key(|(service, _)| *service);
        mains
    }

    pub fn services_of(&self, main: ProcessKey) -> Vec<ServiceId> {
        let services = self.by_pid.get(&main.pid).into_iter().flatten();
        services.copied().filter(|service| self.main_of(*service) == Some(main)).collect()
    }

    /// Sets a cgroup, of the v2 hierarchy, that only this service uses.
    pub fn add_cgroup(&mut self, service: ServiceId, id: u64) {
        self.cgroups.insert(id, service);
    }

    /// Removes all cgroups of a service, and returns their ids.
    pub fn remove_cgroups(&mut self, service: ServiceId) -> Vec<u64> {
        let gone = self
            .cgroups
            .iter()
            .filter(|(_, owner)| **owner == service)
            .map(|(id, _)| *id)
            .collect::<Vec<_>>();
        for id in &gone {
            self.cgroups.remove(id);
        }
        gone
    }

    /// Whether a service has a cgroup of its own.
    pub fn has_cgroup(&self, service: ServiceId) -> bool {
        self.cgroups.values().any(|owner| *owner == service)
    }

    /// The service whose main process this is, or whose cgroup it is in.
    pub fn certainly_of(&self, key: ProcessKey, cgroups: &Cgroups) -> Option<Membership> {
        if let Some(&service) = self.services_of(key).first() {
            return Some(Membership { service, main: true });
        }
        if let Some(&service) = cgroups.v2.and_then(|id| self.cgroups.get(&id)) {
            return Some(Membership { service, main: false });
        }
        None
    }

    /// The service whose main process is a present ancestor of a process. A parent that has ended breaks the chain.
    pub fn by_descent(&self, key: ProcessKey, parent: u32, table: &Table) -> Option<ServiceId> {
        let mut child = key.start;
        let mut ancestor = parent;
        for _ in 0..MAX_GENERATIONS {
            if let Some(service) = self.head(ancestor) {
                // A parent is older than its child. If it is not, or is followed by a later process, the pid is another
                // process's by now.
                let main = self.main_of(service).filter(|main| main.start <= child)?;
                let later = table.newest(ancestor).filter(|known| known.key.start > main.start);
                return later.is_none().then_some(service);
            }
            let known = table.newest(ancestor).filter(|known| known.key.start <= child)?;
            child = known.key.start;
            ancestor = Some(known.parent_pid).filter(|parent| *parent > 1)?;
        }
        None
    }

    /// The service that is expected to listen on a port and whose main process is not known (yet): a unit's
    /// new process may listen before systemd has said which it is.
    pub fn expecting(&self, port: u16) -> Option<ServiceId> {
        let expects = |(service, ports): &(&ServiceId, &BTreeSet<u16>)| {
            ports.contains(&port) && self.main_of(**service).is_none()
        };
        self.ports.iter().find(expects).map(|(service, _)| *service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, fact::Process};

    const WEB: ServiceId = ServiceId(1);

    fn key(pid: u32) -> ProcessKey {
        ProcessKey::new(pid, Timestamp::from_nanos(u64::from(pid) * 1_000_000_000))
    }

    fn cgroups(v2: u64) -> Cgroups {
        Cgroups { v2: Some(v2), memory_v1: None }
    }

    #[test]
    fn a_process_belongs_by_identity_then_cgroup_then_descent() {
        let mut table = Table::default();
        table.insert(Process::unknown(key(11), 10));
        let mut members = Members::default();
        members.set_main(WEB, Some(key(10)));
        members.add_cgroup(WEB, 77);
        let certainly = |pid, cgroup| members.certainly_of(key(pid), &cgroups(cgroup));
        assert_eq!(certainly(10, 1), Some(Membership { service: WEB, main: true }));
        assert_eq!(certainly(50, 77), Some(Membership { service: WEB, main: false }));
        assert_eq!(certainly(12, 1), None);
        assert_eq!(members.by_descent(key(12), 11, &table), Some(WEB));
        assert_eq!(members.by_descent(key(12), 10, &table), Some(WEB));
        assert_eq!(members.by_descent(key(50), 1, &table), None);
        let reused = ProcessKey::new(10, Timestamp::from_nanos(999_000_000_000));
        assert_eq!(members.certainly_of(reused, &cgroups(1)), None, "a reused pid is another process");
    }

    #[test]
    fn no_process_descends_from_a_younger_one() {
        let mut table = Table::default();
        table.insert(Process::unknown(key(20), 10));
        let mut members = Members::default();
        let main = ProcessKey::new(10, Timestamp::from_nanos(30_000_000_000));
        members.set_main(WEB, Some(main));
        assert_eq!(members.by_descent(key(40), 10, &table), Some(WEB));
        // A record of a process whose parent had the pid before the service's main process.
        assert_eq!(members.by_descent(key(25), 10, &table), None);
        // A record of a process whose parent has the pid after it.
        table.insert(Process::unknown(ProcessKey::new(10, Timestamp::from_nanos(35_000_000_000)), 1));
        assert_eq!(members.by_descent(key(40), 10, &table), None);
        // The same, one generation up.
        assert_eq!(members.by_descent(key(40), 20, &table), None);
        // A parent that is younger than its child is another process with its pid.
        assert_eq!(members.by_descent(key(15), 20, &table), None);
    }

    #[test]
    fn one_process_can_be_the_main_one_of_several_services() {
        let mut members = Members::default();
        let (http, https) = (ServiceId(1), ServiceId(2));
        assert_eq!(members.set_main(http, Some(key(10))), None);
        assert_eq!(members.set_main(https, Some(key(10))), None);
        assert_eq!(members.set_main(http, Some(key(10))), None, "it is already");
        assert_eq!(members.services_of(key(10)), [http, https]);
        assert_eq!(members.set_main(http, None), None, "it is still the other's");
        assert_eq!(members.set_main(https, Some(key(11))), Some(10));
        assert_eq!(members.services_of(key(10)), []);
    }

    #[test]
    fn a_port_stands_for_a_service_only_while_its_main_process_is_unknown() {
        let mut members = Members::default();
        members.expect_ports(WEB, BTreeSet::from([80]));
        assert_eq!(members.expecting(80), Some(WEB));
        members.set_main(WEB, Some(key(10)));
        assert_eq!(members.expecting(80), None);
        assert_eq!(members.set_main(WEB, Some(key(11))), Some(10));
        assert_eq!(members.main_of(WEB), Some(key(11)));
    }
}
