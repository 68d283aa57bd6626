//! The processes and cgroups of services: the enricher and the sensors are kept in step.

use std::net::{IpAddr, SocketAddr};

use super::Daemon;
use crate::{
    clock::Timestamp,
    config::Service,
    fact::{Observation, ProcessKey, ServiceId, process::accepts},
    host::{ListeningSocket, Survey},
    sensor::ebpf::CgroupId,
};

impl Daemon {
    /// Sets a service's main process, which the sensors watch from now on.
    pub(super) fn set_main(&mut self, service: ServiceId, main: Option<ProcessKey>) {
        let before = self.enricher.members.main_of(service);
        let gone = self.enricher.set_main(service, main);
        // It is watched already; only its home was read again.
        if main.is_some() && main == before {
            return;
        }
        self.executor.inspector.crashes.watch(service, main);
        let mut done = Vec::new();
        done.extend(gone.map(|pid| self.sensors.unwatch_process(pid)));
        // A process that is still another service's main one heads that one's lineage from now on.
        if let Some((before, lineage)) = before.and_then(|it| Some((it, self.enricher.lineage(it.pid)?))) {
            done.push(self.sensors.set_lineage(before, lineage));
        }
        if let Some((main, lineage)) = main.and_then(|it| Some((it, self.enricher.lineage(it.pid)?))) {
            done.push(self.sensors.watch_process(main, lineage));
            if self.sensors.keep_lineages() && !self.enricher.members.has_cgroup(service) {
                // Descendants from before the watch. Where the service has a cgroup, its processes are known by that.
                // Another service's main process has a lineage of its own.
                let members = &self.enricher.members;
                let descendants =
                    self.enricher.reader().descendants(main.pid, |pid| members.head(pid).is_some());
                let add = |process| self.sensors.add_descendant(process, lineage);
                done.extend(descendants.into_iter().map(add));
            }
        }
        for error in done.into_iter().filter_map(Result::err) {
            let name = self.config.name_of(service);
            tracing::error!("{name}: its main process is not watched: {error}");
        }
    }

    /// Sets the cgroup, of the v2 hierarchy, that only this service uses.
    pub(super) fn set_cgroup(&mut self, service: ServiceId, id: u64) {
        let gone = self.enricher.members.remove_cgroups(service);
        self.enricher.members.add_cgroup(service, id);
        let unwatched = gone.into_iter().filter(|&old| old != id);
        let done: Vec<_> = unwatched.map(|old| self.sensors.unwatch_cgroup(CgroupId::Unified(old))).collect();
        for error in
            done.into_iter().chain([self.sensors.watch_cgroup(CgroupId::Unified(id))]).filter_map(Result::err)
        {
            let name = self.config.name_of(service);
            tracing::error!("{name}: its cgroup is not watched: {error}");
        }
    }

    /// Searches for the main processes of these services, if they have none.
    pub(super) fn look_for(&mut self, services: Vec<ServiceId>) {
        let lacks = |service: &ServiceId| self.enricher.members.main_of(*service).is_none();
        let services: Vec<ServiceId> = services.into_iter().filter(lacks).collect();
        self.search.start(&services, Timestamp::now());
    }

    /// A search has ended. Returns the main process that it found, if that is new: its listeners are not counted yet.
    pub(super) fn on_found(&mut self, service: ServiceId, main: Option<ProcessKey>) -> Option<ProcessKey> {
        if !self.is_watched(service) {
            return None;
        }
        self.search.ended(service, main.is_some(), Timestamp::now());
        main.filter(|main| self.take_new_main(service, *main))
    }

    /// Whether a process became the main one of a service that had none. It may have ended meanwhile.
    pub(super) fn take_new_main(&mut self, service: ServiceId, main: ProcessKey) -> bool {
        let is_new = self.enricher.members.main_of(service).is_none() && self.take_for_main(service, main);
        if is_new {
            self.observe(Observation::Running(service, main));
        }
        is_new
    }

    /// Makes a process the main one of a service, if it lives. The watch comes before the check: if the process ends in
    /// between, the sensors report it. If it does not live, the main process stays as it was.
    pub(super) fn take_for_main(&mut self, service: ServiceId, main: ProcessKey) -> bool {
        let before = self.enricher.members.main_of(service);
        self.set_main(service, Some(main));
        let lives = self.enricher.lives(main);
        if !lives {
            self.set_main(service, before);
        }
        lives
    }

    /// A process of a supervised service takes the place of its main process.
    pub(super) fn adopt(&mut self, service: ServiceId, process: ProcessKey) {
        if !self.take_for_main(service, process) {
            return self.observe(Observation::Successor(service, None));
        }
        let name = self.config.name_of(service);
        tracing::info!("{name}: pid {} takes the place of its main process", process.pid);
        self.observe(Observation::Running(service, process));
        // The sensors reported its listeners under the process that opened them.
        let ports = self.ports_of(service, process.pid, &self.survey());
        self.observe(Observation::Listening(service, ports));
    }

    /// Counts the listeners of a process that is older than the daemon; the sensors report those of younger ones. Its
    /// connections are read with the next [`Daemon::execute_effects`].
    pub(super) fn observe_listeners(&mut self, service: ServiceId, main: ProcessKey, survey: &Survey) {
        if main.start < self.began {
            let ports = self.ports_of(service, main.pid, survey);
            self.take_stock_of_sockets(service, main, &ports);
            self.observe(Observation::Listening(service, ports));
        }
    }

    /// The ports that a process and its descendants listen on, one for each socket that clients of the service reach.
    fn ports_of(&self, service: ServiceId, main: u32, survey: &Survey) -> Vec<u16> {
        let sockets = survey.listening_of(main);
        sockets
            .iter()
            .filter(|it| self.is_expected(service, it.ip(), it.port()))
            .map(SocketAddr::port)
            .collect()
    }

    /// Whether one of these sockets that listen on a port is the service's.
    pub(super) fn on_listeners(&mut self, service: ServiceId, port: u16, sockets: &[ListeningSocket]) {
        let main = self.enricher.members.main_of(service);
        let is_own =
            |pid| Some(pid) == main.map(|main| main.pid) || self.enricher.service_of(pid) == Some(service);
        let held = sockets.iter().any(|it| self.is_expected(service, it.address, it.port) && is_own(it.pid));
        self.observe(Observation::ListenerChecked(service, port, held));
    }

    /// Whether connections to the service's port reach a socket with this address.
    fn is_expected(&self, service: ServiceId, address: IpAddr, port: u16) -> bool {
        let expected = self.config.service(service).map(Service::local_addresses).unwrap_or_default();
        expected.get(&port).copied().flatten().is_none_or(|expected| accepts(address, expected))
    }

    pub(super) fn survey(&self) -> Survey {
        Survey::new(self.enricher.reader().clone())
    }
}
