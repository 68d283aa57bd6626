//! Drills: real faults that the daemon causes on purpose, and what came of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The fault of a drill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrillFault {
    /// SIGKILL to the main process.
    #[default]
    Kill,
    /// The processes are stopped: they live and answer nothing.
    Hang,
    /// The kernel's OOM killer, within the service's own cgroup.
    Oom,
    /// The listeners refuse connections.
    Refuse,
}

impl DrillFault {
    pub const ALL: [Self; 4] = [Self::Kill, Self::Hang, Self::Oom, Self::Refuse];

    /// The word used for it on the command line and in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Hang => "hang",
            Self::Oom => "oom",
            Self::Refuse => "refuse",
        }
    }
}

/// How a drill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrillOutcome {
    /// The service is well again, without the drill's help.
    Recovered,
    /// It was not well again in time, or only after the drill had undone the fault.
    NotRecovered,
    /// The fault could not be caused.
    NotCaused,
    /// It is under way, or the daemon ended before it did.
    Unfinished,
}

impl DrillOutcome {
    /// The word used for it in the state file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::NotRecovered => "not_recovered",
            Self::NotCaused => "not_caused",
            Self::Unfinished => "unfinished",
        }
    }
}

/// What a step of a drill is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillStepKind {
    /// The daemon caused the fault.
    Fault,
    /// A sensor or a probe showed it for the first time.
    Detected,
    /// The incident opened, or its verdict changed.
    Verdict,
    /// A restart was requested, done or held, or failed.
    Restart,
    /// The service is well again.
    Recovered,
    /// The daemon undid the fault.
    Undone,
    /// A receiver accepted an alert, or did not.
    Alert,
}

impl DrillStepKind {
    /// The word used for it in the timeline.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Detected => "detected",
            Self::Verdict => "verdict",
            Self::Restart => "restart",
            Self::Recovered => "recovered",
            Self::Undone => "undone",
            Self::Alert => "alert",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrillStep {
    /// Since the fault, in milliseconds.
    pub after_ms: f64,
    pub step: DrillStepKind,
    /// For people.
    pub text: String,
}

/// What came of a drill. Times are in milliseconds since the fault, by the clock that the kernel stamps its records with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrillReport {
    pub id: String,
    pub service: String,
    pub fault: DrillFault,
    /// Who asked for it, for people.
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the fault was caused: RFC 3339, UTC.
    pub began: String,
    pub outcome: DrillOutcome,
    /// The published id of its incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detected_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_ms: Option<f64>,
    /// The first restart was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acted_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered_ms: Option<f64>,
    /// The first receiver accepted the alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerted_ms: Option<f64>,
    pub steps: Vec<DrillStep>,
    /// What the operator should know of it, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}
