//! The daemon's instruments and their results: hooks, probes, units, losses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DatabaseRole, ProbeError, ProbeKind};

/// A probe's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Its protocol.
    #[serde(rename = "type")]
    pub kind: ProbeKind,
    /// The number of the service's probe, from 0.
    pub index: u32,
    /// What was probed, secrets left out.
    pub target: String,
    /// Its duration in milliseconds, to the microsecond.
    pub duration_ms: f64,
    /// The kind of failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ProbeError>,
    /// The failure in a sentence: expected and actual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Failures in a row, so far or before the recovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive: Option<u32>,
    /// The server's report of its own resources, if the probe reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
}

/// A server's resources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Its connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Share>,
    /// Its memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Share>,
    /// The largest holders of its connections, largest first, at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Holder>,
    /// "primary", or "replica" for a standby and a server that is read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<DatabaseRole>,
    /// How far a replica is behind its primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<f64>,
    /// What a replica has received and not applied yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_bytes: Option<u64>,
    /// The replicas that are connected to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u64>,
    /// Keys that were evicted since its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evicted_keys: Option<u64>,
    /// Changes since its data was last saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsaved_changes: Option<u64>,
    /// Slots of its cluster that no node serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncovered_slots: Option<u64>,
    /// The age of its oldest open transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction_ms: Option<f64>,
    /// The sessions that wait for a lock, or the clients that wait for a connection of a pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
    /// The longest of these waits so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<f64>,
    /// The age of its oldest transaction id that is not frozen, in transactions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction_id_age: Option<u64>,
    /// True: it keeps some of this from the probe's user.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withheld: bool,
}

/// Usage and limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// In use.
    pub used: u64,
    /// At most.
    pub max: u64,
}

/// A holder of a database's connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// The database's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The client's name for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// The client's address; absent for a Unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<HolderClient>,
    /// The client's service, if the daemon watches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The client's process, if it is on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<HolderProcess>,
    /// The number of connections.
    pub connections: u32,
}

/// The client's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HolderClient {
    /// Its address.
    pub ip: String,
}

/// The process that holds connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HolderProcess {
    /// Its pid in the initial namespace.
    pub pid: u32,
    /// Its name (`comm`).
    pub name: String,
}

/// The state of a systemd unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// `ActiveState`, such as active or failed.
    pub active_state: String,
    /// `SubState`, such as running, dead or auto-restart.
    pub sub_state: String,
    /// `Result`, such as success, signal or oom-kill.
    pub result: String,
    /// `InvocationID`; absent if it never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation_id: Option<String>,
    /// `MainPID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_pid: Option<u32>,
    /// `NRestarts`: how often systemd restarted it by its own `Restart=` setting.
    pub restarts: u32,
    /// Whether systemd restarts it by itself.
    pub restarts_itself: bool,
    /// The job systemd has queued for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<UnitJob>,
}

/// A job systemd has queued for a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnitJob {
    /// Its id.
    pub id: u32,
    /// `start`, `stop`, `restart`, `reload`, …, as systemd names it.
    #[serde(rename = "type")]
    pub kind: String,
}

/// One kernel hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    /// The tracepoint's name.
    pub hook: String,
    /// Whether it is attached.
    pub attached: bool,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the kernel has no such tracepoint because it lacks what the hook reports about.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
    /// The fallback in its place, and what that cannot report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// The facts that its events lack on this kernel, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacking: Vec<String>,
}

/// The daemon's self-test: a child dies, and the kernel has to report it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    /// Whether the kernel reported the death.
    pub passed: bool,
    /// The delay of the report in milliseconds, to the microsecond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
    /// The reason of a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where the daemon runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Its pid namespace.
    pub pid_namespace: PidNamespace,
    /// The container it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<OwnContainer>,
    /// The cgroups it sees.
    pub cgroup: OwnCgroup,
}

/// The daemon's pid namespace. All pids of the stream are of this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PidNamespace {
    /// Its inode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u32>,
    /// Whether it is the host's initial one. In another one the daemon sees only that namespace's processes.
    pub initial: bool,
}

/// The container that the daemon is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnContainer {
    /// Its runtime, such as docker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// The cgroups that the daemon sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnCgroup {
    /// Which hierarchies there are: v1, hybrid, v2 or none.
    pub mode: String,
    /// Whether they are only a part of the host's.
    pub part: bool,
}

/// The number of services that the daemon watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Watching {
    /// All watched services.
    pub services: u32,
    /// The services that hostprobe may restart.
    pub restartable: u32,
}

/// The configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its path.
    pub path: String,
}

/// Why an action of the daemon failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorText {
    /// The reason in a sentence, secrets redacted.
    pub message: String,
}

/// Lost events, records or lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// The class of the lost items, such as `events`.
    pub class: String,
    /// How many.
    pub count: u64,
    /// Where.
    #[serde(rename = "where")]
    pub place: String,
}
