//! What the kernel tells, by its hooks and by what stands in for them, on its way to the stream and to the engine.

use std::path::PathBuf;

use super::Daemon;
use crate::{
    config::Identity,
    fact::{
        ExitStatus, Fact, Listener, Membership, Observation, OomKill, ProcessExit, ProcessKey, ServiceId,
    },
    sensor::{
        fallback::Sighting,
        record::{Exec, Record},
    },
};

impl Daemon {
    /// Takes in what the kernel has told since, by its hooks and by what stands in for them.
    pub fn drain_sensors(&mut self) {
        let mut sightings = std::mem::take(&mut self.sightings);
        self.stand_ins.drain(&mut sightings);
        // An end is told after what the hooks tell of the same process.
        let (ends, notices): (Vec<_>, Vec<_>) =
            sightings.into_iter().partition(|it| matches!(it, Sighting::Death(_)));
        notices.into_iter().for_each(|it| self.take_sighting(it));
        self.drain_hooks();
        ends.into_iter().for_each(|it| self.take_sighting(it));
    }

    fn take_sighting(&mut self, sighting: Sighting) {
        match sighting {
            Sighting::Exec { pid, .. } => {
                if let Some(executable) = self.enricher.executed(pid) {
                    self.look_for_executable(&executable);
                }
            }
            Sighting::Oom(line) => {
                let (kill, member) = self.enricher.oom_line(&line);
                self.take_oom(kill, member);
            }
            // The supervisor reads how its own commands ended, and tells it in a moment.
            Sighting::Death(death)
                if death.status == ExitStatus::Unknown
                    && death.key.is_some_and(|key| self.is_supervised(key)) => {}
            Sighting::Death(death) => match self.enricher.death(&death) {
                Some((exit, member)) => self.take_exit(exit, member),
                None => self.stand_ins.count_unidentified(),
            },
        }
    }

    fn drain_hooks(&mut self) {
        let mut records = std::mem::take(&mut self.records);
        if let Some(kernel) = &mut self.kernel {
            kernel.drain(&mut records);
        }
        for record in records.drain(..) {
            match record {
                Record::Exec(record) => {
                    self.enricher.exec(&record);
                    self.let_go(&record);
                    if let Some(image) = &record.image {
                        self.look_for_executable(&image.filename);
                    }
                }
                Record::Exit(record) => {
                    let (exit, member) = self.enricher.exit(&record);
                    self.take_exit(exit, member);
                }
                Record::Oom(record) => {
                    let (kill, member) = self.enricher.oom(&record);
                    self.take_oom(kill, member);
                }
                Record::Listen(record) => {
                    let (listener, service) = self.enricher.listener(&record);
                    self.take_listener(listener, service);
                }
                Record::SocketError(record) => self.take_socket_error(&record),
                Record::Connect(record) => self.take_connect(&record),
                Record::AcceptQueue(record) => self.take_accept_queue(&record),
                Record::Stop(record) => self.take_stop(&record),
                Record::Retransmits(record) => self.take_retransmits(&record),
                Record::Cgroup(record) => self.enricher.cgroup_made(record),
            }
        }
        self.records = records;
    }

    /// Removes a process from its lineage if it execs outside the service: it may be a login session, whose later processes do
    /// not belong to the service.
    fn let_go(&mut self, record: &Exec) {
        if let Some(kernel) = &mut self.kernel
            && self.enricher.has_left(record)
            && let Err(error) = kernel.remove_descendant(record.pid)
        {
            tracing::warn!(%error, "a process that has left a service is still taken for one of it");
        }
    }

    /// Looks for the services whose executable was executed.
    fn look_for_executable(&mut self, executable: &str) {
        let executed = |exe: &PathBuf| exe.as_os_str() == executable;
        self.look_for(self.search.interested(|matcher| matcher.exe.as_ref().is_some_and(executed)));
    }

    fn take_oom(&mut self, kill: OomKill, member: Option<Membership>) {
        let at = kill.at;
        let event = self.publisher.publish(Fact::OomKill(kill.clone(), member), at);
        if let Some(member) = member {
            self.observe(Observation::OomKill(kill, member, event));
        }
    }

    pub(super) fn take_exit(&mut self, exit: ProcessExit, member: Option<Membership>) {
        if let Some(member) = member.filter(|member| self.is_unheard_of(&exit, *member)) {
            self.early.insert(member.service, exit);
            return;
        }
        let at = exit.at;
        let event = self.publisher.publish(Fact::ProcessExit(exit.clone(), member), at);
        let Some(member) = member else { return };
        self.executor.inspector.exited(member.service, &exit);
        if !member.main {
            return self.observe(Observation::Exit(exit, member, event));
        }
        let mut services = self.enricher.members.services_of(exit.process.key);
        if !services.contains(&member.service) {
            services.push(member.service);
        }
        for service in &services {
            self.set_main(*service, None);
            let member = Membership { service: *service, main: true };
            self.observe(Observation::Exit(exit.clone(), member, event));
        }
        // A graceful replacement, or a sibling under the same name, may be there already.
        self.look_for(services);
    }

    /// Whether a process is the main one of a service that the supervisor starts.
    pub(super) fn is_supervised(&self, key: ProcessKey) -> bool {
        let services = self.enricher.members.services_of(key);
        let exec = |id: &ServiceId| matches!(self.config.services[id.0 as usize].identity, Identity::Exec(_));
        services.iter().any(exec)
    }

    /// Whether this is the end of a supervised command that died before its start was told: our own child, in
    /// the service's cgroup.
    fn is_unheard_of(&self, exit: &ProcessExit, member: Membership) -> bool {
        !member.main
            && exit.process.parent_pid == std::process::id()
            && matches!(self.config.services[member.service.0 as usize].identity, Identity::Exec(_))
            && self.enricher.members.main_of(member.service).is_none()
    }

    pub(super) fn take_listener(&mut self, listener: Listener, service: Option<ServiceId>) {
        if listener.up {
            self.look_for(self.search.interested(|matcher| matcher.port == Some(listener.port)));
        }
        let Some(service) = service else { return };
        self.enricher.members.serves(service, listener.port);
        let event = self.publisher.publish(Fact::Listener(listener.clone(), service), listener.at);
        // One process may be the main one of several services, each with a port of its own.
        let main = self.enricher.members.main_of(service);
        let mut services = main.map(|main| self.enricher.members.services_of(main)).unwrap_or_default();
        if !services.contains(&service) {
            services.push(service);
        }
        for service in services {
            self.observe(Observation::Listener(listener.clone(), service, event));
        }
    }
}
