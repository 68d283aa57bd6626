//! What `/health` answers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::view::{HostIncident, ServiceView, View};
use crate::{
    emit::{HOST_NAME, wire},
    fact::ServiceState,
};

/// The state of a daemon or service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "HealthState")]
pub enum Status {
    /// All is well.
    Healthy,
    /// It works, but not all of it, or not as it should.
    Degraded,
    /// It fails.
    Unhealthy,
}

/// The answer of `/health`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Health {
    /// The host as a whole: unhealthy if a critical service fails, degraded if anything else is not healthy.
    pub status: Status,
    /// The time of the answer: RFC 3339, UTC.
    pub timestamp: String,
    /// The host, and service by service.
    pub checks: BTreeMap<String, Check>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Check {
    pub status: Status,
    /// The duration of its last probe, in milliseconds; null before the first answer.
    pub response_time_ms: Option<f64>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The verdict of its open incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<wire::Verdict>,
    /// Its state is the last known one: hostprobe itself lacks what it takes to watch it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

impl Health {
    pub fn of(view: &View) -> Self {
        let weights = view.services.iter().map(|service| match status(service.state) {
            // A service that is stopped on purpose is not well, and its host is.
            _ if service.state == ServiceState::Stopped => Status::Healthy,
            Status::Unhealthy if !service.critical => Status::Degraded,
            other @ (Status::Healthy | Status::Degraded | Status::Unhealthy) => other,
        });
        // A daemon that does not watch yet cannot vouch for anything.
        let blind = view.services.iter().any(|service| service.stale_since.is_some());
        let own = if view.ready && !blind { Status::Healthy } else { Status::Degraded };
        Self {
            status: weights.chain(view.host.as_deref().map(host_status)).fold(own, Status::max),
            timestamp: format!("{:.3}", jiff::Timestamp::now()),
            checks: view
                .services
                .iter()
                .map(|s| (s.name.clone(), check(s)))
                .chain(view.host.as_deref().map(|host| (HOST_NAME.to_owned(), host_check(host))))
                .collect(),
        }
    }
}

/// A host in trouble still serves what its services serve, so it is never unhealthy by itself.
fn host_status(incidents: &[HostIncident]) -> Status {
    if incidents.is_empty() { Status::Healthy } else { Status::Degraded }
}

fn host_check(incidents: &[HostIncident]) -> Check {
    let worst = incidents.iter().max_by_key(|incident| incident.severity);
    let summaries: Vec<&str> = incidents.iter().map(|incident| incident.summary.as_str()).collect();
    Check {
        status: host_status(incidents),
        response_time_ms: None,
        error: (!summaries.is_empty()).then(|| summaries.join("; ")),
        verdict: worst.map(|incident| incident.verdict.into()),
        stale: false,
    }
}

fn check(service: &ServiceView) -> Check {
    Check {
        status: status(service.state),
        response_time_ms: service.response_time.map(|took| took.as_micros() as f64 / 1000.0),
        error: service.error.clone(),
        verdict: service.verdict.map(Into::into),
        stale: service.stale_since.is_some(),
    }
}

/// A state in the three words of this page. A service that is starting, stopped or unwatched is not known to be
/// healthy.
const fn status(state: ServiceState) -> Status {
    match state {
        ServiceState::Healthy => Status::Healthy,
        ServiceState::Starting | ServiceState::Degraded | ServiceState::Stopped | ServiceState::Paused => {
            Status::Degraded
        }
        ServiceState::Unhealthy | ServiceState::Down => Status::Unhealthy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::tests::service;

    fn overall(services: &[(bool, ServiceState)]) -> Status {
        let services = services
            .iter()
            .map(|(critical, state)| ServiceView { critical: *critical, ..service("s", *state) })
            .collect();
        Health::of(&View { ready: true, services, ..View::default() }).status
    }

    #[test]
    fn only_a_critical_failure_is_unhealthy() {
        use ServiceState::{Degraded, Down, Healthy, Paused, Starting, Stopped, Unhealthy};
        assert_eq!(overall(&[]), Status::Healthy);
        assert_eq!(overall(&[(true, Healthy)]), Status::Healthy);
        assert_eq!(overall(&[(true, Healthy), (true, Stopped)]), Status::Healthy);
        for state in [Starting, Degraded, Paused] {
            assert_eq!(overall(&[(true, Healthy), (true, state)]), Status::Degraded);
        }
        for state in [Unhealthy, Down] {
            assert_eq!(overall(&[(false, state)]), Status::Degraded);
            assert_eq!(overall(&[(true, state), (false, Healthy)]), Status::Unhealthy);
        }
    }

    #[test]
    fn a_host_in_trouble_is_degraded_and_says_why() {
        let incident = HostIncident {
            id: crate::fact::IncidentId::new(1),
            verdict: crate::fact::Verdict::HostDiskFull,
            severity: crate::fact::Severity::Critical,
            summary: "/var is full".to_owned(),
            since: crate::clock::Timestamp::default(),
            held: Vec::new(),
        };
        let of = |host| Health::of(&View { ready: true, host: Some(host), ..View::default() });
        let (well, ill) = (of(Vec::new()), of(vec![incident]));
        assert_eq!((well.status, well.checks["host"].status), (Status::Healthy, Status::Healthy));
        assert_eq!((ill.status, ill.checks["host"].status), (Status::Degraded, Status::Degraded));
        assert_eq!(ill.checks["host"].error.as_deref(), Some("/var is full"));
        assert_eq!(ill.checks["host"].verdict, Some(wire::Verdict::HostDiskFull));
    }

    #[test]
    fn a_daemon_that_is_not_ready_vouches_for_nothing() {
        assert_eq!(Health::of(&View::default()).status, Status::Degraded);
    }
}
