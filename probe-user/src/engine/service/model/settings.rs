//! A service's configuration. It never changes.

use std::time::Duration;

use crate::{
    config::{self, Identity, Limits, Policy, RestartPolicy},
    fact::{RestartMethod, ServiceId},
};

#[derive(Debug)]
pub struct Settings {
    pub id: ServiceId,
    pub method: RestartMethod,
    pub is_unit: bool,
    pub is_remote: bool,
    /// hostprobe's own supervisor starts it.
    pub is_supervised: bool,
    /// The services that are to be healthy before its first start.
    pub start_after: Vec<ServiceId>,
    /// How long the supervisor waits for its end before SIGKILL.
    pub stop_timeout: Duration,
    /// The name of the program that the supervisor starts.
    pub program: Option<String>,
    /// hostprobe does not start it, and finds its process by a pattern.
    pub is_matched: bool,
    pub critical: bool,
    pub restart: RestartPolicy,
    /// hostprobe would restart it without `--observe`.
    pub only_observed: bool,
    pub limits: Limits,
    /// The responses to failures that a restart may not mend.
    pub policy: Policy,
}

impl Settings {
    pub fn new(id: ServiceId, spec: &config::Service, observe: bool) -> Self {
        let method = match &spec.identity {
            Identity::Unit(_) => RestartMethod::Systemd,
            Identity::Exec(_) => RestartMethod::Supervisor,
            Identity::Match(_) if spec.restart.command.is_some() => RestartMethod::Command,
            Identity::Match(_) | Identity::Remote => RestartMethod::None,
        };
        let exec = match &spec.identity {
            Identity::Exec(exec) => Some(exec),
            Identity::Unit(_) | Identity::Match(_) | Identity::Remote => None,
        };
        let program = exec.and_then(|exec| exec.command.first()?.rsplit('/').next()).map(str::to_owned);
        let mut restart = spec.restart.clone();
        restart.enabled &= !observe;
        Self {
            id,
            method,
            is_unit: matches!(spec.identity, Identity::Unit(_)),
            is_remote: spec.identity == Identity::Remote,
            is_supervised: exec.is_some(),
            start_after: spec.start_after.clone(),
            stop_timeout: exec.map_or(Duration::ZERO, |exec| exec.stop_timeout),
            program,
            is_matched: matches!(spec.identity, Identity::Match(_)),
            critical: spec.critical,
            restart,
            only_observed: observe && spec.restart.enabled,
            limits: spec.limits,
            policy: spec.policy,
        }
    }
}
