//! A service's configuration. A reload replaces it.

use std::time::Duration;

use crate::fact::{IdentityKind, Limits, Policy, RestartMethod, RestartPolicy, ServiceId, ServiceSettings};

#[derive(Debug)]
pub struct Settings {
    pub id: ServiceId,
    pub method: RestartMethod,
    /// systemd or a container engine manages it, reports its state, and may restart it by itself.
    pub is_unit: bool,
    pub is_container: bool,
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
    /// The daemon runs with `--observe`.
    pub observe: bool,
    /// hostprobe would restart it without `--observe`.
    pub only_observed: bool,
    pub limits: Limits,
    /// The responses to failures that a restart may not mend.
    pub policy: Policy,
}

impl Settings {
    pub fn new(id: ServiceId, given: &ServiceSettings, observe: bool) -> Self {
        let mut restart = given.restart.clone();
        restart.enabled &= !observe;
        Self {
            id,
            method: given.method,
            is_unit: matches!(given.kind, IdentityKind::Unit | IdentityKind::Container),
            is_container: given.kind == IdentityKind::Container,
            is_remote: given.kind == IdentityKind::Remote,
            is_supervised: given.kind == IdentityKind::Exec,
            start_after: given.start_after.clone(),
            stop_timeout: given.stop_timeout,
            program: given.program.clone(),
            is_matched: given.kind == IdentityKind::Match,
            critical: given.critical,
            restart,
            observe,
            only_observed: observe && given.restart.enabled,
            limits: given.limits,
            policy: given.policy,
        }
    }
}
