//! What the sensors report, on its way to the stream and to the engine: one handler a kind of record.

mod requests;

use std::path::PathBuf;

use super::Daemon;
use crate::{
    clock::Timestamp,
    config::Identity,
    enrich,
    fact::{
        ExitStatus, Fact, FaultContext, HostCheck, Listener, Membership, Observation, ProcessExit,
        ProcessKey, ServiceId,
    },
    inspect::{crash::Crashed, culprit::MemoryDeath},
    sensor::record::{CrashStack, Exec, Exit, HostReport, Listen, Oom, ReceivedSignal, Record},
};

impl Daemon {
    /// What explains a fault has come. If the service was healed sooner, only the history takes it.
    pub(super) fn on_context(&mut self, service: ServiceId, context: FaultContext) {
        self.observe(Observation::Context(service, context.clone()));
        self.publisher.explain_last(service, &context);
    }

    /// Handles what the sensors have reported since.
    pub fn drain_sensors(&mut self) {
        self.sensors.drain(&mut self.records);
        self.handle_records();
    }

    /// Handles what the sensors report only once a second. Meant to be called after [`Daemon::drain_sensors`].
    pub(super) fn check_sensors(&mut self) {
        let mains = self.enricher.members.mains().into_iter().map(|(_, main)| main).collect();
        self.sensors.every_second(mains, &mut self.records);
        self.handle_records();
    }

    fn handle_records(&mut self) {
        let mut records = std::mem::take(&mut self.records);
        for record in records.drain(..) {
            self.on_record(record);
        }
        self.records = records;
    }

    fn on_record(&mut self, record: Record) {
        match record {
            Record::Exit(record) => self.on_exit(&record),
            Record::Oom(record) => self.on_oom(&record),
            Record::Exec(record) => self.on_exec(&record),
            Record::Listen(record) => self.on_listen(&record),
            Record::SocketError(record) => self.on_socket_error(&record),
            Record::Connect(record) => self.on_connect(&record),
            Record::AcceptQueue(record) => self.on_accept_queue(&record),
            Record::Stop(record) => self.on_stop(&record),
            Record::CoreSignal(record, stack) => self.on_core_signal(&record, stack.as_deref()),
            Record::CrashMemory(record) => self.executor.inspector.crashes.copied(record.pid, record.stack),
            Record::Retransmits(record) => self.on_retransmits(&record),
            Record::Host(record) => self.on_host_report(record),
            Record::Cgroup(record) => self.enricher.cgroup_made(record),
        }
    }

    fn on_exec(&mut self, record: &Exec) {
        let executable = self.enricher.exec(record);
        self.executor.inspector.crashes.executed(record.pid);
        self.observe_request(record);
        self.remove_departed(record);
        if let Some(executable) = executable {
            self.look_for_executable(&executable);
        }
    }

    fn on_exit(&mut self, record: &Exit) {
        // The supervisor reads how its own commands ended, and reports it in a moment.
        let key = ProcessKey::new(record.pid, Timestamp::from_nanos(record.start_ns));
        if record.status.0.is_none() && self.is_supervised(key) {
            return;
        }
        match self.enricher.exit(record) {
            Some((mut exit, member)) => {
                let crash = self.executor.inspector.crashes.ended(exit.process.key, exit.at);
                exit.crash = crash.map(Box::new);
                self.on_exit_of(exit, member, Some(record));
            }
            None => self.sensors.count_unidentified(),
        }
    }

    fn on_oom(&mut self, record: &Oom) {
        let (kill, member) = self.enricher.oom(record);
        let at = kill.at;
        let event = self.publisher.publish(Fact::OomKill(kill.clone(), member), at);
        if let Some(member) = member {
            let main = self.enricher.members.main_of(member.service).map(|main| main.pid);
            let group = self.enricher.memory_group(&record.cgroups);
            self.executor
                .inspector
                .ended_for_memory(member.service, MemoryDeath::of_kernel(&kill, group, main));
            self.observe(Observation::OomKill(kill, member, event));
        }
    }

    fn on_stop(&mut self, record: &ReceivedSignal) {
        let (stop, services) = self.enricher.stop(record);
        for service in services {
            let event = self.publisher.publish(Fact::Suspension(stop.clone(), service), stop.at);
            self.observe(Observation::Suspended(stop.clone(), service, event));
        }
    }

    fn on_host_report(&mut self, record: HostReport) {
        let host = &self.config.host;
        let is_wanted = match record.subject.check {
            HostCheck::HungTask => host.hung_tasks,
            HostCheck::BlockErrors => host.block_errors,
            HostCheck::FsErrors => host.fs_errors,
            HostCheck::MemoryErrors => host.memory_errors,
            HostCheck::Thermal => host.thermal_percent.is_some(),
            HostCheck::Conntrack => host.conntrack_percent.is_some(),
            HostCheck::Neighbours => host.neighbours_percent.is_some(),
            HostCheck::Files => host.files_percent.is_some(),
            // The kernel does not report these as they happen.
            HostCheck::Space
            | HostCheck::Inodes
            | HostCheck::ReadOnly
            | HostCheck::Memory
            | HostCheck::MemoryPressure
            | HostCheck::CpuPressure
            | HostCheck::IoPressure
            | HostCheck::CpuSteal
            | HostCheck::Pids
            | HostCheck::Ports
            | HostCheck::ClockOffset
            | HostCheck::ClockSync
            | HostCheck::ClockStep
            | HostCheck::Reboot => false,
        };
        if is_wanted {
            self.observe(Observation::Host(enrich::host_reading(record)));
        }
    }

    /// The stream gets the signal with the exit.
    fn on_core_signal(&mut self, record: &ReceivedSignal, stack: Option<&CrashStack>) {
        let (signal, services) = self.enricher.core_signal(record);
        if let Some(stack) = stack {
            let crashed = Crashed {
                key: signal.process,
                at: signal.at,
                process: self.enricher.known_process(signal.process).cloned(),
                thread_name: stack.thread_name.clone(),
            };
            let site = enrich::crash_site(record, stack);
            self.executor.inspector.crashes.crashed(&services, crashed, site);
        }
        for service in services {
            self.observe(Observation::CoreSignal(signal, service));
        }
    }

    fn on_listen(&mut self, record: &Listen) {
        let (listener, service) = self.enricher.listener(record);
        self.on_listener(listener, service);
    }

    /// Removes a process from its lineage if it execs outside the service: it may be a login session, whose later processes do
    /// not belong to the service.
    fn remove_departed(&mut self, record: &Exec) {
        if self.enricher.has_left(record)
            && let Err(error) = self.sensors.remove_descendant(record.pid)
        {
            tracing::warn!(%error, "pid {}: has left its service and could not be removed from its lineage; its children still count as the service's", record.pid);
        }
    }

    /// Searches for the main processes of services with this executable.
    fn look_for_executable(&mut self, executable: &str) {
        let executed = |exe: &PathBuf| exe.as_os_str() == executable;
        self.look_for(self.search.interested(|matcher| matcher.exe.as_ref().is_some_and(executed)));
    }

    pub(super) fn on_process_exit(&mut self, exit: ProcessExit, member: Option<Membership>) {
        self.on_exit_of(exit, member, None);
    }

    /// Handles the exit of a process, by the record of the hook if that reported it.
    fn on_exit_of(&mut self, mut exit: ProcessExit, member: Option<Membership>, record: Option<&Exit>) {
        let read_sender = |daemon: &Self, exit: &mut ProcessExit, member| {
            if let Some(record) = record {
                daemon.enricher.read_sender(exit, record, member);
            }
        };
        if let Some(member) = member.filter(|member| self.is_before_start_report(&exit, *member)) {
            read_sender(self, &mut exit, member);
            if let Some(earlier) = self.early.insert(member.service, exit) {
                self.publish_early(member.service, earlier);
            }
            return;
        }
        let at = exit.at;
        let event = self.publisher.publish(Fact::ProcessExit(exit.clone(), member), at);
        let Some(member) = member else { return };
        read_sender(self, &mut exit, member);
        self.executor.inspector.exited(member.service, &exit, member.main);
        let main = self.enricher.members.main_of(member.service).map(|main| main.pid);
        if let Some(death) = MemoryDeath::of_program(&exit, main) {
            self.executor.inspector.ended_for_memory(member.service, death);
        }
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
            let left_processes = self.executor.has_left_processes(*service, &exit);
            // No decision depends on the place.
            let exit = ProcessExit { left_processes, crash: None, ..exit.clone() };
            self.observe(Observation::Exit(exit, member, event));
        }
        // The host may be the cause.
        self.executor.host.hasten();
        // A graceful replacement, or a sibling under the same name, may be there already.
        self.look_for(services);
    }

    /// Publishes an exit that waited for the report of a start, which did not come.
    pub(super) fn publish_early(&mut self, service: ServiceId, exit: ProcessExit) {
        let (at, member) = (exit.at, Membership { service, main: false });
        self.publisher.publish(Fact::ProcessExit(exit, Some(member)), at);
    }

    /// Reports the exits of main processes that no sensor reported. Meant to be called about once a second, after
    /// [`Daemon::drain_sensors`].
    pub(super) fn report_missed_exits(&mut self) {
        let now = Timestamp::now();
        let mains = self.enricher.members.mains().into_iter().map(|(_, main)| main);
        // The supervisor reads how its own commands ended.
        let mains: Vec<_> = mains.filter(|main| !self.is_supervised(*main)).collect();
        for main in self.missed_exits.round(&mains, |main| self.enricher.lives(main), now) {
            // One process may be the main one of several services; its exit is published once.
            let Some(&service) = self.enricher.members.services_of(main).first() else { continue };
            let name = self.config.name_of(service);
            tracing::warn!("{name}: missed the exit of pid {}; its status is unknown", main.pid);
            let exit = self.enricher.ended(main, 0, ExitStatus::Unknown, now);
            self.on_process_exit(exit, Some(Membership { service, main: true }));
        }
    }

    /// Whether a process is the main one of a service that the supervisor starts.
    fn is_supervised(&self, key: ProcessKey) -> bool {
        let services = self.enricher.members.services_of(key);
        services.iter().any(|id| self.is_exec(*id))
    }

    /// Whether hostprobe starts a service.
    fn is_exec(&self, id: ServiceId) -> bool {
        self.config.service(id).is_some_and(|service| matches!(service.identity, Identity::Exec(_)))
    }

    /// Whether this is the exit of a supervised command that ended before its start was reported: our own child, in
    /// the service's cgroup.
    fn is_before_start_report(&self, exit: &ProcessExit, member: Membership) -> bool {
        !member.main
            && exit.process.parent_pid == std::process::id()
            && self.is_exec(member.service)
            && self.enricher.members.main_of(member.service).is_none()
    }

    fn on_listener(&mut self, listener: Listener, service: Option<ServiceId>) {
        if listener.up {
            self.look_for(self.search.interested(|matcher| matcher.port == Some(listener.port)));
        }
        let Some(service) = service else { return };
        self.enricher.members.serves(service, listener.port);
        self.publisher.serves(service, listener.port);
        let event = self.publisher.publish(Fact::Listener(listener.clone(), service), listener.at);
        // One process may be the main one of several services, each with a port of its own.
        let main = self.enricher.members.main_of(service);
        let mut services = main.map(|main| self.enricher.members.services_of(main)).unwrap_or_default();
        if !services.contains(&service) {
            services.push(service);
        }
        let asked = main.filter(|_| !listener.up).and_then(|main| self.sensors.request_to_end(main));
        for service in services {
            if let Some(at) = asked {
                self.observe(Observation::AskedToEnd(service, at));
            }
            self.observe(Observation::Listener(listener.clone(), service, event));
        }
    }
}
