//! What programs ask for: which of the services a command line is about.

use super::Daemon;
use crate::{
    config::{Identity, Service},
    enrich::request::{Subject, matches},
    fact::{Observation, Process, ServiceId},
    sensor::record::Exec,
};

/// The shortest part of a container's id that counts as one: people copy twelve digits, and engines take fewer.
const ID_MIN: usize = 4;

impl Daemon {
    /// Lets the engine observe that a program asks for the stop, the restart or the end of services.
    pub(super) fn observe_request(&mut self, record: &Exec) {
        let Some((request, subject)) = self.enricher.outside_request(record) else { return };
        let is_for_manager = matches!(subject, Subject::AllUnits | Subject::Units(_));
        if is_for_manager && self.is_at_another_manager(record) {
            return;
        }
        let about: Vec<ServiceId> =
            self.config.services.iter().filter(|it| self.is_about(&subject, it)).map(|it| it.id).collect();
        for service in about {
            self.observe(Observation::OutsideRequest(service, Box::new(request.clone())));
        }
    }

    /// Whether a process asks the systemd of another container, which has units of the same names.
    fn is_at_another_manager(&self, record: &Exec) -> bool {
        let reader = self.enricher.reader();
        let manager =
            self.executor.systemd.as_ref().ok().and_then(|it| reader.pid_namespace(it.manager_pid()));
        let recorded = record.image.as_ref().and_then(|image| image.pid_namespace);
        let own = recorded.or_else(|| reader.pid_namespace(record.pid));
        manager.zip(own).is_some_and(|(manager, own)| manager != own)
    }

    fn is_about(&self, subject: &Subject, service: &Service) -> bool {
        let main = || self.enricher.members.main_of(service.id);
        let process = || self.enricher.process(main()?);
        match (subject, &service.identity) {
            (_, Identity::Remote) => false,
            (Subject::AllUnits, identity) => matches!(identity, Identity::Unit(_)),
            (Subject::Units(names), Identity::Unit(unit)) => names.iter().any(|name| matches(name, unit)),
            (Subject::Units(_), Identity::Exec(_) | Identity::Match(_) | Identity::Container(_)) => false,
            (Subject::Containers(names), Identity::Container(container))
                if names.contains(&container.name) =>
            {
                true
            }
            (Subject::Containers(names), _) => {
                let container = process().and_then(|it| it.container_id.as_deref());
                container.is_some_and(|id| names.iter().any(|name| self.is_container(name, id, service)))
            }
            (Subject::Pids(pids), _) => main().is_some_and(|main| pids.contains(&main.pid)),
            (Subject::Named { names, whole }, _) => {
                process().is_some_and(|it| names.iter().any(|name| is_named(it, name, *whole)))
            }
        }
    }

    /// Whether a name or an id means the container of a service. An engine alone knows the names that it gave, so a name
    /// counts where it is the service's own, or where only one service runs in a container.
    fn is_container(&self, name: &str, id: &str, service: &Service) -> bool {
        let is_id = name.len() >= ID_MIN && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_id && id.starts_with(name) || name == id || name == service.name {
            return true;
        }
        let in_container = |it: &&Service| {
            let main = self.enricher.members.main_of(it.id);
            main.and_then(|main| self.enricher.process(main)).is_some_and(|it| it.container_id.is_some())
        };
        !is_id && self.config.services.iter().filter(in_container).count() == 1
    }
}

/// Whether `killall` or `pkill` means a process by this name.
fn is_named(process: &Process, name: &str, whole: bool) -> bool {
    let line = process.command_line.as_deref().unwrap_or_default();
    let program = process.executable.as_deref().and_then(|path| path.rsplit('/').next());
    match whole {
        true => process.name == name || program == Some(name),
        false => process.name.contains(name) || line.contains(name),
    }
}
