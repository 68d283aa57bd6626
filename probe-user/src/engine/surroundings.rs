//! What a service has to know of the other services and of the host.

use crate::{
    clock::Timestamp,
    fact::{ServiceId, Verdict},
};

#[derive(Debug, Default)]
pub struct Surroundings {
    /// The services that this one depends on.
    pub dependencies: Vec<ServiceId>,
    /// The root causes among them: services that have failed.
    pub causes: Vec<Cause>,
    /// Those that may be about to fail.
    pub suspects: Vec<ServiceId>,
    /// Why the host counts as overloaded, if it does.
    pub pressed: Option<String>,
    /// How many services time out together, if they are enough to have one cause.
    pub together: Option<String>,
    /// Only the service itself can be the reason for its silence, as far as is known.
    pub alone: bool,
}

/// A service that has failed and that others depend on.
#[derive(Clone, Debug)]
pub struct Cause {
    pub service: ServiceId,
    pub verdict: Verdict,
    pub summary: String,
    pub since: Timestamp,
    /// The configuration declares the dependency. The service may be able to do without a learned one.
    pub declared: bool,
    /// The cause's own incident alerts.
    pub alerts: bool,
    /// How many restarts were tried for it.
    pub attempts: u32,
    /// It depends on this service as well.
    pub circular: bool,
    /// The daemon cannot see connections, so it has not seen that this service depends on it.
    pub guessed: bool,
}

/// How a service's failure matters to those that depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Well,
    Failed,
    /// It fails because of that other service.
    Held(ServiceId),
}
