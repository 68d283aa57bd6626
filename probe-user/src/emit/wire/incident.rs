//! Incidents, restarts and alerts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RestartMethod, Severity, Verdict};

/// An incident; events that only belong to one carry its id alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Incident {
    /// Unique: `{agent.ephemeral_id}-i{n}`.
    pub id: String,
    /// What happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// How sure that is, 0 to 1: 1 for the kernel's own word, less for probes alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub confidence: Option<f64>,
    /// How loud it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// One sentence for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Where the cause lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The ids of the events it was reached from, at most the latest 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Vec<String>>,
    /// Names of the services whose restart or alert is held because of it, at most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Vec<String>>,
    /// When the fault happened: RFC 3339, UTC, nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub since: Option<String>,
    /// How many restarts were tried for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// How long each step took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Timing>,
    /// The file with what was seen of the service's processes before they were ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
}

/// Where the cause of an incident lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    /// The name of the service; often the failed one itself.
    pub service: String,
}

/// The steps of an incident in milliseconds from the fault's own time, to the microsecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// The daemon knew of the fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detected_ms: Option<f64>,
    /// The verdict was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_ms: Option<f64>,
    /// The restart was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acted_ms: Option<f64>,
    /// The service listened again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listening_ms: Option<f64>,
    /// Its probes answered again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_ms: Option<f64>,
}

/// A step of a restart; a hold says why in `event.reason`, a failure in `error.message`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// How.
    pub method: RestartMethod,
    /// Which try of this incident, from 1.
    pub attempt: u32,
    /// Why the service is to be restarted, in a sentence.
    pub reason: String,
    /// How many more restarts the budget allows after this one.
    pub budget_left: u32,
}

/// The delivery of an alert; a failure says why in `error.message`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// The receiver, without its path and secrets.
    pub receiver: String,
    /// How loud.
    pub severity: Severity,
    /// Whether it says that the incident is on or over.
    pub status: AlertStatus,
    /// How many tries it took or has taken.
    pub attempts: u32,
    /// The same for all alerts of one incident.
    pub dedup_key: String,
}

/// Whether an alert says that its incident is on or over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertStatus {
    /// The incident is on.
    Firing,
    /// The incident is over.
    Resolved,
}

impl AlertStatus {
    /// The status of an alert that is, or is not, the message that its incident is over.
    pub const fn of(resolved: bool) -> Self {
        if resolved { Self::Resolved } else { Self::Firing }
    }
}
