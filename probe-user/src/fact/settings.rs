//! The part of a service's configuration that decides.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{RestartMethod, ServerLimits, ServiceId};

/// What the engine knows of a service's configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceSettings {
    pub name: String,
    pub kind: IdentityKind,
    pub method: RestartMethod,
    /// The name of the program that the supervisor starts.
    pub program: Option<String>,
    /// The services it cannot work without.
    pub depends_on: Vec<ServiceId>,
    /// The services that are to be healthy before the first start of its command.
    pub start_after: Vec<ServiceId>,
    /// How long its command may take to end; zero for what hostprobe does not start.
    pub stop_timeout: Duration,
    /// Whether its failure makes the whole host unhealthy.
    pub critical: bool,
    /// The TCP ports it must listen on, each with the address if one probe in numbers names it.
    pub ports: BTreeMap<u16, Option<IpAddr>>,
    pub probes: Vec<ProbeSettings>,
    pub restart: RestartPolicy,
    pub limits: Limits,
    pub policy: Policy,
}

/// What a service is on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentityKind {
    /// A systemd unit.
    Unit,
    /// A command that hostprobe starts and keeps running.
    Exec,
    /// A container, which an engine runs.
    Container,
    /// A process that something else started.
    Match,
    /// Nothing: it is elsewhere, and only probed.
    Remote,
}

/// What the engine knows of a probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeSettings {
    /// Failures in a row before they count.
    pub failures: u32,
    pub timeout: Duration,
    /// The TCP port that it connects to.
    pub port: Option<u16>,
    /// An answer that takes longer is slow.
    pub slow: Option<Duration>,
    #[serde(default)]
    pub server: ServerLimits,
    /// Its server has one event loop, which carries out each command to its end before it takes the next one, as Redis does.
    #[serde(default)]
    pub has_one_loop: bool,
    /// Earlier results at its position are those of another probe.
    pub is_new: bool,
    /// What it asks and takes for right, as a number: a later run of the daemon knows the same probe by it. 0 if unknown.
    #[serde(default)]
    pub question: u64,
}

/// What to do about failures that a restart of the service itself may not be the answer to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// A child process died; the main process lives.
    pub worker_died: Response,
    /// A store is full and refuses writes.
    pub memory_full: Response,
    /// A database has no connections left. `Restart` restarts the service that holds most of them, never the
    /// database.
    pub pool_exhausted: Response,
    /// A listener has no room for more connections.
    #[serde(default)]
    pub backlog_full: Response,
    /// A resource will reach its limit. `Restart` waits for a window of maintenance.
    #[serde(default)]
    pub exhausting: Response,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Publish an event only.
    Ignore,
    /// Send an alert to the receivers.
    #[default]
    Alert,
    Restart,
}

/// How many restarts of all services together are allowed…
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartBudget {
    pub restarts: u32,
    /// … in how long.
    pub window: Duration,
}

impl Default for RestartBudget {
    fn default() -> Self {
        Self { restarts: 20, window: Duration::from_secs(600) }
    }
}

/// Whether and how a service is restarted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// False: hostprobe only watches and alerts.
    pub enabled: bool,
    pub on_clean_exit: OnCleanExit,
    /// How many restarts are allowed…
    pub budget: u32,
    /// … in how long.
    pub budget_window: Duration,
    /// Wait before the second restart in a row; it doubles with each.
    pub backoff_first: Duration,
    /// It never grows beyond this.
    pub backoff_max: Duration,
    /// After a (re)start, probe failures do not count for this long.
    pub grace: Duration,
    /// For a process that something else started: absolute path and arguments of the command that restarts it. The
    /// engine does not know it: it may hold a secret.
    #[serde(skip)]
    pub command: Option<Vec<String>>,
    /// The command that runs before each restart: absolute path and arguments.
    #[serde(skip)]
    pub before: Option<Vec<String>>,
}

/// What to do when the main process ends with success, or because another process asked it to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnCleanExit {
    /// Restart it, as after any other end.
    #[default]
    Always,
    /// Take it for a stop.
    Never,
}

/// Limits above which a service is degraded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Percent of one core, over the sampling interval.
    pub cpu_percent: Option<f64>,
    /// Percent of its memory cgroup's limit, or of the host's memory where it has none.
    pub memory_percent: Option<f64>,
    /// Threads of all its processes.
    pub threads: Option<u64>,
    /// Open file descriptors of all its processes.
    pub fds: Option<u64>,
    /// Percent of the tightest limit on its threads.
    #[serde(default)]
    pub threads_percent: Option<f64>,
    /// Percent of the limit on the descriptors of the process that is closest to its own.
    #[serde(default)]
    pub fds_percent: Option<f64>,
    /// A resource that grows and reaches its limit within this time is a fault.
    #[serde(default)]
    pub growth: Option<Duration>,
}
