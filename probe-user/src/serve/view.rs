//! What the daemon shows, as the pipeline last published it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    fact::{HookCoverage, IncidentId, Order, ServiceState, Severity, Verdict},
};

/// What there is to show, as the pipeline last published it.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Whether the daemon watches: its hooks are attached and the services it found are known.
    pub ready: bool,
    /// Whether it restarts nothing, whatever its configuration says.
    pub observes: bool,
    /// The services in the order of their ids.
    pub services: Vec<ServiceView>,
    /// The open incidents of the host; None before its checks began.
    pub host: Option<Vec<HostIncident>>,
    /// Hook by hook, what the daemon can see.
    pub coverage: Vec<HookCoverage>,
    /// What the daemon counted since its start.
    pub counters: Counters,
}

/// One service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceView {
    pub name: String,
    /// Its systemd unit, if it has one.
    pub unit: Option<String>,
    /// Whether its failure makes the whole host unhealthy.
    pub critical: bool,
    pub state: ServiceState,
    pub main_pid: Option<u32>,
    /// The duration of its last probe.
    pub response_time: Option<Duration>,
    /// What is wrong with it, in one sentence without secrets.
    pub error: Option<String>,
    /// The verdict of its open incident.
    pub verdict: Option<Verdict>,
    /// Its open incident.
    pub incident: Option<IncidentId>,
    /// That incident in one sentence.
    pub summary: Option<String>,
    /// When it came into its state; None if it never changed.
    pub since: Option<Timestamp>,
    pub depends_on: Vec<Dependency>,
    /// Services whose restart or alert is held because of its incident.
    pub held: Vec<String>,
    /// Since when its state is only the last known one; None if it is the present one.
    pub stale_since: Option<Timestamp>,
    /// The operator's orders about it that are in force.
    pub orders: Vec<Order>,
    /// The open window of its maintenance.
    pub maintenance: Option<String>,
}

/// An open incident of the host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostIncident {
    pub id: IncidentId,
    pub verdict: Verdict,
    pub severity: Severity,
    /// It in one sentence without secrets.
    pub summary: String,
    pub since: Timestamp,
    /// Services whose restart is held because of it.
    pub held: Vec<String>,
}

/// A service that another one depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dependency {
    /// Its name.
    pub service: String,
    /// Whether it was learned from connections, rather than declared.
    pub learned: bool,
}

/// What the daemon counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The number of published events.
    pub events: u64,
    /// Events lost on their way.
    pub events_lost: u64,
    /// Incidents opened.
    pub incidents: u64,
    /// Restarts carried out.
    pub restarts: u64,
    /// Alerts that wait to be delivered.
    pub alerts_waiting: u64,
}
