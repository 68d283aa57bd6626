//! What operators ask for, and the way to the daemon's loop.

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::fact::{AlertTestOutcome, CommandKind, DrillFault, DrillReport, Operator, Reload};

/// The longest reason, in bytes.
pub const MAX_REASON: usize = 500;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    pub operation: CommandKind,
    pub target: Target,
    /// How long it lasts; without it, until another command ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a command is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// All services.
    All,
    /// A service by its name.
    Service(String),
    /// An open incident by its id, or the number at the end of it.
    Incident(String),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub kind: RefusalKind,
    pub message: String,
}

/// Why there is no answer, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    BadRequest,
    /// Only root, the daemon's own user and the group may ask.
    NotPermitted,
    /// No such service or incident, or several.
    NotFound,
    /// The service has no method for the command, or the method failed.
    Failed,
    Stopping,
}

/// A command on its way to the daemon, with the place for its answer.
#[derive(Debug)]
pub struct OperatorRequest {
    pub operation: Operation,
    pub by: Operator,
    /// The outcome in a sentence.
    pub answer: oneshot::Sender<Result<String, Refusal>>,
}

/// A request to read the configuration again, with the place for its answer.
#[derive(Debug)]
pub struct ReloadRequest {
    pub by: Operator,
    pub reason: Option<String>,
    pub answer: oneshot::Sender<Reload>,
}

/// A request for test messages to receivers, with the place for what came of them.
#[derive(Debug)]
pub struct AlertTestRequest {
    /// None: to all.
    pub receiver: Option<String>,
    pub by: Operator,
    pub answer: oneshot::Sender<Result<Vec<AlertTestOutcome>, Refusal>>,
}

/// A request for a drill, with the place for its answer.
#[derive(Debug)]
pub struct DrillRequest {
    pub service: String,
    pub fault: DrillFault,
    pub reason: Option<String>,
    /// The main process that the operator agreed to do it to; None to ask what it would do.
    pub agreed: Option<u32>,
    pub by: Operator,
    pub answer: oneshot::Sender<Result<DrillAnswer, Refusal>>,
}

#[derive(Debug)]
pub enum DrillAnswer {
    Plan(DrillPlan),
    Report(Box<DrillReport>),
}

/// What a drill would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillPlan {
    pub service: String,
    pub fault: DrillFault,
    /// The pid of its main process.
    pub main: u32,
    /// For people, a sentence each.
    pub words: Vec<String>,
    /// How long the service may take to recover before the fault is undone, in seconds.
    pub limit_s: u64,
}

/// Where commands go.
pub type Operations = mpsc::Sender<OperatorRequest>;

/// Where requests for test messages go.
pub type AlertTests = mpsc::Sender<AlertTestRequest>;

/// Where requests for drills go.
pub type Drills = mpsc::Sender<DrillRequest>;
