//! The objects of the event stream, field by field.
//!
//! Names and nesting follow the Elastic Common Schema where it has them. A part that an event has nothing to
//! say about is left out; which parts an event always has is in [`super::action`].

mod incident;
mod process;
mod socket;
mod watch;
mod word;

pub use incident::{Alert, AlertStatus, Cause, Incident, Restart, Timing};
pub use process::{
    Cgroup, Container, ExitSignal, Oom, OomTrigger, Parent, Process, Sender, SenderOrigin, User,
};
pub use socket::{AcceptQueue, Dependency, Endpoint, Retransmit, Socket};
pub use watch::{
    Coverage, ErrorText, File, Holder, HolderClient, HolderProcess, Loss, OwnCgroup, OwnContainer,
    PidNamespace, Place, Probe, SelfTest, Server, Share, Unit, UnitJob, Watching,
};
pub use word::{
    Direction, OomScope, ProbeError, ProbeKind, Protocol, Provider, RestartMethod, ServiceState, Severity,
    Verdict,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::action::{Action, Kind};

/// The version of the stream's format that every event names.
pub const SCHEMA_VERSION: &str = "2";

/// The version of the Elastic Common Schema that the fields follow.
pub const ECS_VERSION: &str = "9.0";

/// One event: one line of the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// When it happened, by the wall clock: RFC 3339, UTC, nanoseconds. Kernel facts carry the kernel's time.
    #[serde(rename = "@timestamp")]
    #[schemars(extend("format" = "date-time"))]
    pub timestamp: String,
    /// The version of the Elastic Common Schema.
    pub ecs: Ecs,
    /// The version of this format.
    #[schemars(extend("const" = SCHEMA_VERSION))]
    pub schema_version: String,
    /// What kind of event it is, and its place in the stream.
    pub event: Event,
    /// How much attention it deserves.
    pub log: Log,
    /// One sentence for a person; its wording may change.
    pub message: String,
    /// The host it happened on.
    pub host: Host,
    /// The daemon that says it.
    pub agent: Agent,
    /// The service it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// The incident it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<Incident>,
    /// The process it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The control group of that process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Cgroup>,
    /// The container of that process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The OOM killer's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom: Option<Oom>,
    /// The side of a connection that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Endpoint>,
    /// The side of a connection that was asked, or the address of a listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Endpoint>,
    /// An error of a socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<Socket>,
    /// Segments that had to be sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retransmit: Option<Retransmit>,
    /// The connections that wait to be accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_queue: Option<AcceptQueue>,
    /// The service that another one depends on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependency: Option<Dependency>,
    /// systemd's word on the service's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    /// A probe's result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// A step of a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// The delivery of an alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<Alert>,
    /// What was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// What the daemon can see of the kernel, hook by hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Vec<Coverage>>,
    /// Where the daemon runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The result of the daemon's self-test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_test: Option<SelfTest>,
    /// How much the daemon watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watching: Option<Watching>,
    /// The configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<File>,
    /// Why something the daemon tried did not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorText>,
}

/// The Elastic Common Schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ecs {
    /// Its version.
    #[schemars(extend("const" = ECS_VERSION))]
    pub version: String,
}

/// What kind of event it is, and its place in the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Unique: `{agent.ephemeral_id}-{sequence}`.
    pub id: String,
    /// Counts from 1 at the daemon's start; a gap is a loss.
    #[schemars(range(min = 1))]
    pub sequence: u64,
    /// The broadest class.
    pub kind: Kind,
    /// ECS category.
    pub category: Vec<String>,
    /// ECS type within the category.
    #[serde(rename = "type")]
    pub types: Vec<String>,
    /// What happened.
    pub action: Action,
    /// Whether it is good or bad news.
    pub outcome: Outcome,
    /// What saw it.
    pub provider: Provider,
    /// Why it happened, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether an event is good or bad news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Something worked, ended well, or is well.
    Success,
    /// Something failed, or ended badly.
    Failure,
    /// Neither, or not known yet.
    Unknown,
}

/// How much attention an event deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The level.
    pub level: Level,
}

/// A level, as loggers have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For the record.
    Info,
    /// Worth a look.
    Warn,
    /// Something is broken.
    Error,
}

/// The host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its name, as `uname -n` prints it.
    pub name: String,
    /// Its current boot.
    pub boot: Boot,
}

/// One boot of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// The kernel's boot id.
    pub id: String,
}

/// The daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// `hostprobe`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Eight hexadecimal digits, new at each start of the daemon.
    pub ephemeral_id: String,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name in the configuration.
    pub name: String,
    /// Its systemd unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Its state as it was last reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ServiceState>,
    /// The state before that, where the event is about the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<ServiceState>,
    /// On events about a process: whether it is the service's main process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_process: Option<bool>,
}
