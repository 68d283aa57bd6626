//! The part of a service's configuration that decides.

use std::time::Duration;

use super::service::{Identity, Service};
use crate::fact::{IdentityKind, ProbeKind, ProbeSettings, RestartMethod, RestartPolicy, ServiceSettings};

impl Service {
    /// What the engine knows of it. Before a reload, no probe is new.
    pub fn settings(&self) -> ServiceSettings {
        let (kind, method) = match &self.identity {
            Identity::Unit(_) => (IdentityKind::Unit, RestartMethod::Systemd),
            Identity::Exec(_) => (IdentityKind::Exec, RestartMethod::Supervisor),
            Identity::Match(_) if self.restart.command.is_some() => {
                (IdentityKind::Match, RestartMethod::Command)
            }
            Identity::Match(_) => (IdentityKind::Match, RestartMethod::None),
            Identity::Container(_) => (IdentityKind::Container, RestartMethod::Container),
            Identity::Remote => (IdentityKind::Remote, RestartMethod::None),
        };
        let exec = self.exec();
        let program = exec.and_then(|exec| exec.command.first()?.rsplit('/').next());
        let probes = self.probes.iter().map(|probe| ProbeSettings {
            failures: probe.failures,
            timeout: probe.timeout,
            port: probe.port(),
            slow: probe.slow,
            server: probe.server,
            has_one_loop: probe.kind == ProbeKind::Redis,
            is_new: false,
            question: probe.question(),
        });
        ServiceSettings {
            name: self.name.clone(),
            kind,
            method,
            program: program.map(str::to_owned),
            depends_on: self.depends_on.clone(),
            start_after: self.start_after.clone(),
            stop_timeout: exec.map_or(Duration::ZERO, |exec| exec.stop_timeout),
            critical: self.critical,
            ports: self.local_addresses(),
            probes: probes.collect(),
            restart: RestartPolicy { command: None, before: None, ..self.restart.clone() },
            limits: self.limits,
            policy: self.policy,
        }
    }
}
