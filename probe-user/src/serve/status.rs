//! What `/api/v1/status` answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::{Dependency, View};
use crate::{
    emit::{self, Origin, wire},
    fact,
    redact::redact,
    store::history::History,
};

/// The daemon and its services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Whether the daemon watches.
    pub ready: bool,
    /// Whether it only observes: it restarts nothing, whatever its configuration says (`--observe`).
    #[serde(default)]
    pub observes: bool,
    /// The time of the answer: RFC 3339, UTC.
    pub timestamp: String,
    /// The host.
    pub host: wire::Host,
    /// The daemon.
    pub agent: wire::Agent,
    /// The open incidents of the host itself.
    #[serde(default)]
    pub host_incidents: Vec<HostIncident>,
    /// The services in the order of the configuration.
    pub services: Vec<Service>,
    /// What the daemon can see of the kernel, hook by hook.
    pub coverage: Vec<wire::Coverage>,
    /// What the daemon counted since its start.
    pub counters: Counters,
}

/// An open incident of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostIncident {
    /// Its id.
    pub incident: String,
    /// Its verdict.
    pub verdict: wire::Verdict,
    /// Its severity.
    pub severity: wire::Severity,
    /// It in one sentence.
    pub summary: String,
    /// When it began: RFC 3339, UTC.
    pub since: String,
    /// Services whose restart is held because of it.
    #[serde(default)]
    pub held: Vec<String>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ServiceStatus")]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its systemd unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Whether its failure makes the whole host unhealthy.
    pub critical: bool,
    /// Its state.
    pub state: wire::ServiceState,
    /// Its main process on this host, if one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_pid: Option<u32>,
    /// The duration of its last probe, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_time_ms: Option<f64>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The verdict of its open incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<wire::Verdict>,
    /// The id of its open incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    /// That incident in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// When it came into its state: RFC 3339, UTC; absent if it never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Since when hostprobe itself lacks what it takes to watch it: RFC 3339, UTC. Its state is the last known one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<String>,
    /// The operators' orders about it that are in force: a stop, a pause, an acknowledgement.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<Order>,
    /// The open window of its maintenance, in which restarts and alerts are held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<String>,
    /// What it depends on.
    #[serde(default)]
    pub depends_on: Vec<Dependency>,
    /// Services whose restart or alert is held because of its incident.
    #[serde(default)]
    pub held: Vec<String>,
    /// Why its restart is held, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
}

/// An operator's order in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Order {
    pub command: wire::CommandKind,
    /// Who gave it.
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// RFC 3339, UTC.
    pub since: String,
    /// When it ends by itself: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl From<&fact::Order> for Order {
    fn from(order: &fact::Order) -> Self {
        Self {
            command: order.kind.into(),
            by: order.by.to_string(),
            reason: order.reason.as_deref().map(|reason| redact(reason).into_owned()),
            since: emit::wall(order.since),
            until: order.until.map(emit::wall),
        }
    }
}

/// What the daemon counted since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counters {
    /// The number of published events.
    pub events: u64,
    /// Events lost on their way.
    pub events_lost: u64,
    /// Incidents opened.
    pub incidents: u64,
    /// Incidents open now.
    pub incidents_open: u64,
    /// Restarts carried out.
    pub restarts: u64,
    /// Alerts that wait to be delivered.
    pub alerts_waiting: u64,
}

impl Status {
    pub fn of(view: &View, origin: &Origin, history: &History) -> Self {
        let services = view.services.iter().map(|service| Service {
            name: service.name.clone(),
            unit: service.unit.clone(),
            critical: service.critical,
            state: service.state.into(),
            main_pid: service.main_pid,
            response_time_ms: service.response_time.map(|took| took.as_micros() as f64 / 1000.0),
            error: service.error.clone(),
            verdict: service.verdict.map(Into::into),
            incident: service.incident.map(|id| origin.incident_id(id)),
            summary: service.summary.clone(),
            since: service.since.map(emit::wall),
            stale_since: service.stale_since.map(emit::wall),
            orders: service.orders.iter().map(Into::into).collect(),
            maintenance: service.maintenance.clone(),
            depends_on: service.depends_on.clone(),
            held: service.held.clone(),
            hold: history.hold(&service.name).map(str::to_owned),
        });
        let coverage = view.coverage.iter().map(|hook| wire::Coverage {
            hook: hook.hook.to_owned(),
            attached: hook.missing.is_none(),
            reason: hook.missing.clone(),
            absent: hook.absent,
            fallback: hook.fallback.clone(),
            lacking: hook.lacking.clone(),
        });
        let host_incidents: Vec<HostIncident> = view
            .host
            .iter()
            .flatten()
            .map(|open| HostIncident {
                incident: origin.incident_id(open.id),
                verdict: open.verdict.into(),
                severity: open.severity.into(),
                summary: open.summary.clone(),
                since: emit::wall(open.since),
                held: open.held.clone(),
            })
            .collect();
        let open =
            view.services.iter().filter(|service| service.incident.is_some()).count() + host_incidents.len();
        Self {
            ready: view.ready,
            observes: view.observes,
            timestamp: format!("{:.3}", jiff::Timestamp::now()),
            host: origin.host(),
            agent: origin.agent(),
            host_incidents,
            services: services.collect(),
            coverage: coverage.collect(),
            counters: Counters {
                events: view.counters.events,
                events_lost: view.counters.events_lost,
                incidents: view.counters.incidents,
                incidents_open: open as u64,
                restarts: view.counters.restarts,
                alerts_waiting: view.counters.alerts_waiting,
            },
        }
    }
}
