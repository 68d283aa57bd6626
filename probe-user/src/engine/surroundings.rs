//! What a service needs to know of the other services and of the host.

use super::host::HostTrouble;
use crate::{
    clock::Timestamp,
    fact::{ServiceId, Verdict},
};

#[derive(Debug, Default)]
pub struct Surroundings {
    pub dependencies: Vec<ServiceId>,
    /// The root causes among them: services that have failed.
    pub causes: Vec<Cause>,
    /// The dependencies that may be about to fail.
    pub suspects: Vec<ServiceId>,
    /// Why the host counts as overloaded, if it does.
    pub pressed: Option<String>,
    /// How late hostprobe itself is, if its probes say nothing for that.
    pub late: Option<String>,
    /// The number of services that time out together, if one cause is likely.
    pub together: Option<String>,
    /// The services whose units this one's unit needs, of those that its state names.
    pub needed: Vec<NeededService>,
    /// What of the host keeps services from working.
    pub host: HostTrouble,
    /// No other cause of the service's silence is known.
    pub alone: bool,
    /// What is known of the services on other hosts that it connects to.
    pub elsewhere: Elsewhere,
}

/// A watched service whose unit another one needs.
#[derive(Clone, Debug)]
pub struct NeededService {
    pub unit: String,
    pub service: ServiceId,
    pub failed: bool,
}

/// A service that has failed and that others depend on.
#[derive(Clone, Debug)]
pub struct Cause {
    pub service: ServiceId,
    pub verdict: Verdict,
    pub summary: String,
    pub since: Timestamp,
    /// The configuration declares the dependency. A learned one may not be needed.
    pub declared: bool,
    /// The cause's own incident alerts.
    pub alerts: bool,
    /// The number of restarts so far.
    pub attempts: u32,
    /// It depends on this service in turn.
    pub circular: bool,
    /// The daemon cannot see connections, so it has not seen this dependency.
    pub guessed: bool,
    /// Another host reports it: its confidence, and the ids of the evidence there.
    pub foreign: Option<(f32, Vec<String>)>,
}

/// What is known of the services on other hosts that a service connects to.
#[derive(Debug, Default)]
pub struct Elsewhere {
    /// One of them is known to be well, and can be the cause a moment later.
    pub may_fail: bool,
    /// Those of which nothing is known now.
    pub unknown: Vec<ServiceId>,
    /// Why the fleet cannot say whether another host is the cause, for people.
    pub silence: Option<String>,
}

/// A service's health for its dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Well,
    Failed,
    /// Another service causes its failure.
    Held(ServiceId),
}
