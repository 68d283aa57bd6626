//! Which processes and cgroups are the services', made known to all who have to know.

use super::Daemon;
use crate::{
    clock::Timestamp,
    fact::{Observation, ProcessKey, ServiceId},
    host::Survey,
    sensor::ebpf::CgroupId,
};

impl Daemon {
    /// Makes known to the kernel side and to the enricher which process is a service's main one.
    pub(super) fn set_main(&mut self, service: ServiceId, main: Option<ProcessKey>) {
        let before = self.enricher.members.main_of(service);
        let gone = self.enricher.set_main(service, main);
        // It is watched already; its home was looked at anew.
        if main.is_some() && main == before {
            return;
        }
        let mut done = Vec::new();
        done.extend(gone.map(|pid| self.sensors.unwatch_process(pid)));
        // A process that is still another service's main one heads that one's lineage from now on.
        if let Some((before, lineage)) = before.and_then(|it| Some((it, self.enricher.lineage(it.pid)?))) {
            done.push(self.sensors.set_lineage(before, lineage));
        }
        if let Some((main, lineage)) = main.and_then(|it| Some((it, self.enricher.lineage(it.pid)?))) {
            done.push(self.sensors.watch_process(main, lineage));
            if self.sensors.keep_lineages() && !self.enricher.members.has_cgroup(service) {
                // Descendants from before the watch. Where the service has a cgroup, that tells its processes. Another
                // service's main process has a lineage of its own.
                let members = &self.enricher.members;
                let descendants =
                    self.enricher.reader().descendants(main.pid, |pid| members.head(pid).is_some());
                let add = |process| self.sensors.add_descendant(process, lineage);
                done.extend(descendants.into_iter().map(add));
            }
        }
        for error in done.into_iter().filter_map(Result::err) {
            tracing::error!(%error, "a service's main process is not watched by the kernel side");
        }
    }

    /// Makes known which cgroup of the v2 hierarchy is a service's own.
    pub(super) fn set_cgroup(&mut self, service: ServiceId, id: u64) {
        let gone = self.enricher.members.remove_cgroups(service);
        self.enricher.members.add_cgroup(service, id);
        let unwatched = gone.into_iter().filter(|&old| old != id);
        let done: Vec<_> = unwatched.map(|old| self.sensors.unwatch_cgroup(CgroupId::Unified(old))).collect();
        for error in
            done.into_iter().chain([self.sensors.watch_cgroup(CgroupId::Unified(id))]).filter_map(Result::err)
        {
            tracing::error!(%error, "a service's cgroup is not watched by the kernel side");
        }
    }

    /// Looks for the main processes of those of these services that have none.
    pub(super) fn look_for(&mut self, services: Vec<ServiceId>) {
        let lacks = |service: &ServiceId| self.enricher.members.main_of(*service).is_none();
        let services: Vec<ServiceId> = services.into_iter().filter(lacks).collect();
        self.search.start(&services, Timestamp::now());
    }

    /// The main process of a matched service was found. One that has ended meanwhile is not taken for it.
    pub(super) fn found(&mut self, service: ServiceId, main: ProcessKey, survey: &Survey) {
        if self.enricher.members.main_of(service).is_none() && self.take_for_main(service, main) {
            self.observe(Observation::Running(service, main));
            self.take_stock(service, main, survey);
        }
    }

    /// Makes a process the main one of a service, if it lives. It is watched before that is asked: what ends in between
    /// is told by the kernel, or was gone before. If it does not, the one before stays.
    pub(super) fn take_for_main(&mut self, service: ServiceId, main: ProcessKey) -> bool {
        let before = self.enricher.members.main_of(service);
        self.set_main(service, Some(main));
        let lives = self.enricher.lives(main);
        if !lives {
            self.set_main(service, before);
        }
        lives
    }

    /// Counts the listeners of a process that is older than the daemon's knowledge of it; those of a younger one
    /// the kernel has told of. Its connections are looked at with the next [`Daemon::execute_effects`].
    pub(super) fn take_stock(&mut self, service: ServiceId, main: ProcessKey, survey: &Survey) {
        if main.start < self.began {
            let ports = survey.ports_of(main.pid);
            self.take_stock_of_sockets(service, main, &ports);
            self.observe(Observation::Listening(service, ports));
        }
    }

    /// A look at the host as it is now.
    pub(super) fn survey(&self) -> Survey {
        Survey::new(self.enricher.reader().clone())
    }
}
