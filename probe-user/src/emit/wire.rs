//! The objects of the event stream.
//!
//! Names and nesting follow the Elastic Common Schema where it defines them. An event leaves out absent parts.
//! [`super::action`] lists the parts that an event always has.

mod blame;
mod crash;
mod growth;
mod hook;
mod host;
mod incident;
mod operator;
mod process;
mod reload;
mod socket;
mod watch;
mod word;

pub use blame::*;
pub use crash::*;
pub use growth::*;
pub use hook::*;
pub use host::*;
pub use incident::*;
pub use operator::*;
pub use process::*;
pub use reload::*;
pub use socket::*;
pub use watch::*;
pub use word::*;

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::action::{Action, Kind};

/// The version of the stream's format.
pub const SCHEMA_VERSION: &str = "2";

/// The version of the Elastic Common Schema that the fields follow.
pub const ECS_VERSION: &str = "9.0";

/// One event, one line of the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The event's wall-clock time: RFC 3339, UTC, nanoseconds. Kernel facts carry the kernel's time.
    #[serde(rename = "@timestamp")]
    #[schemars(extend("format" = "date-time"))]
    pub timestamp: String,
    /// The version of the Elastic Common Schema.
    pub ecs: Ecs,
    /// The version of this format.
    #[schemars(extend("const" = SCHEMA_VERSION))]
    pub schema_version: Cow<'static, str>,
    /// The event's kind and its place in the stream.
    pub event: Event,
    /// The attention it deserves.
    pub log: Log,
    /// One sentence for people; its wording may change.
    pub message: String,
    /// The host it happened on.
    pub host: Host,
    /// The daemon that published it.
    pub agent: Agent,
    /// The service that the event is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// The incident it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<Incident>,
    /// The process that the event is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The control group of that process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Cgroup>,
    /// The container of that process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The pod of that container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orchestrator: Option<Orchestrator>,
    /// The OOM killer's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom: Option<Oom>,
    /// The side that opened a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Endpoint>,
    /// The side that accepts a connection, or the address of a listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Endpoint>,
    /// An error of a socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<Socket>,
    /// TCP retransmits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retransmit: Option<Retransmit>,
    /// The accept queue of a listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_queue: Option<AcceptQueue>,
    /// The growth of a resource towards its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// The service that another one depends on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependency: Option<Dependency>,
    /// The state of the service's unit.
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
    /// A check of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_check: Option<HostCheck>,
    /// The run of a program of the user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
    /// The user who gave a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// An operator's command. Its reason is in `event.reason`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<Operator>,
    /// Lost events, records or lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// The daemon's view of the kernel, hook by hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Vec<Coverage>>,
    /// Where the daemon runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The result of the daemon's self-test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_test: Option<SelfTest>,
    /// The number of services that the daemon watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watching: Option<Watching>,
    /// What a reload of the configuration changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<Reload>,
    /// The configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<File>,
    /// Why an action of the daemon failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorText>,
}

/// The Elastic Common Schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ecs {
    /// Its version.
    #[schemars(extend("const" = ECS_VERSION))]
    pub version: Cow<'static, str>,
}

/// The event's kind and its place in the stream.
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
    pub category: Vec<Cow<'static, str>>,
    /// ECS type within the category.
    #[serde(rename = "type")]
    pub types: Vec<Cow<'static, str>>,
    /// What happened.
    pub action: Action,
    /// Whether it reports a success or a failure.
    pub outcome: Outcome,
    /// The source of the event.
    pub provider: Provider,
    /// The reason in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether an event reports a success or a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Something worked, ended with success, or is healthy.
    Success,
    /// Something failed, or ended with an error.
    Failure,
    /// Neither, or not known yet.
    Unknown,
}

/// The attention an event deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The level.
    pub level: Level,
}

/// A log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For the record.
    Info,
    /// To be looked at.
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
    pub name: Cow<'static, str>,
    /// Its version.
    pub version: Cow<'static, str>,
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
    /// Its last reported state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ServiceState>,
    /// The previous state, if the event is about the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<ServiceState>,
    /// For events about a process: whether it is the service's main process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_process: Option<bool>,
}
