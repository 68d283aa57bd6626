//! Incidents, restarts and alerts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Actor, Crash, Culprit, RestartMethod, Severity, Verdict};

/// An incident. Events that only belong to an incident carry its id alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Incident {
    /// Unique: `{agent.ephemeral_id}-i{n}`.
    pub id: String,
    /// What happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The confidence in the verdict, 0 to 1: 1 for the kernel's own report, less for probes alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub confidence: Option<f64>,
    /// The present severity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The ids of the events that led to the verdict, at most the latest 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Vec<String>>,
    /// The names of the services whose restart or alert is held because of it, at most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Vec<String>>,
    /// When the fault happened: RFC 3339, UTC, nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub since: Option<String>,
    /// The number of restarts so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The times of its steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Timing>,
    /// The file with the snapshot of the service's processes, taken before the restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The last lines that the service logged before the fault, oldest first: at most 20, and 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<Vec<String>>,
    /// What was changed of the service or of the host's packages within half an hour before the fault, latest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<String>>,
    /// When each of `incident.changes` was made, in the same order: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Vec<String>>,
    /// What the threads waited for, if the service hung.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stacks: Option<Stacks>,
    /// Where the main process crashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<Crash>,
    /// Who took the memory, if it ran out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub culprit: Option<Box<Culprit>>,
    /// Who ended the service, asked for its end, or restarts it again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Box<Actor>>,
    /// The operator who caused the fault on purpose, by `hostprobe drill`; absent for any other incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<String>,
}

/// What the threads of a hung service waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stacks {
    /// One sentence for people, such as `8 of 8 threads wait in connect() to 10.0.0.5:5432 (orders-db)`.
    pub summary: String,
    /// Threads with equal stacks, the most telling first, at most 8. The snapshot has all.
    pub groups: Vec<StackGroup>,
    /// What could not be read, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<String>>,
}

/// Threads with the same stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StackGroup {
    /// The number of threads.
    pub threads: u32,
    /// What they wait for, in words.
    pub waits: String,
    /// The functions, the innermost first, at most 16.
    pub frames: Vec<String>,
}

/// The cause of an incident.
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
    /// The daemon learned of the fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detected_ms: Option<f64>,
    /// The engine reached the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_ms: Option<f64>,
    /// The daemon issued the restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acted_ms: Option<f64>,
    /// The service listened again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listening_ms: Option<f64>,
    /// Its probes answered again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_ms: Option<f64>,
}

/// A step of a restart. The reason of a hold is in `event.reason`, that of a failure in `error.message`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// The way of the restart.
    pub method: RestartMethod,
    /// The number of the attempt in this incident, from 1.
    pub attempt: u32,
    /// The reason for the restart, in a sentence.
    pub reason: String,
    /// The restarts that the budget allows after this one.
    pub budget_left: u32,
}

/// The delivery of an alert. The reason of a failure is in `error.message`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// The receiver, without its path and secrets; absent where an order holds the alert back from all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<String>,
    /// The severity of the alert.
    pub severity: Severity,
    /// Whether the incident is open or over.
    pub status: AlertStatus,
    /// The number of attempts so far.
    pub attempts: u32,
    /// The same for all alerts of one incident.
    pub dedup_key: String,
}

/// Whether the incident of an alert is open or over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertStatus {
    /// The incident is open.
    Firing,
    /// The incident is over.
    Resolved,
}

impl AlertStatus {
    pub const fn of(resolved: bool) -> Self {
        if resolved { Self::Resolved } else { Self::Firing }
    }
}
