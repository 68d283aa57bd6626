//! Incidents: the failure, its cause, the actions against it, and the time of each step.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Actor, CrashSite, Culprit, EventId, HangStacks, HostSubject, ServiceId};
use crate::clock::Timestamp;

/// What happened to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// It ended itself by a signal: a fault, an abort.
    Crashed,
    /// It exited, although it should stay up.
    Exited,
    /// The OOM killer ended its main process.
    OomKilled,
    /// Another process sent it a fatal signal.
    Killed,
    /// An operator or a program stopped it on purpose.
    Stopped,
    /// systemd could not start it, or not in time.
    StartFailed,
    /// Its process lives, its listener is gone.
    NotListening,
    /// Its probes fail without other evidence.
    Unhealthy,
    /// It failed again after each restart its budget allows.
    CrashLoop,
    /// Something else restarts it again and again.
    RestartedByOther,
    /// It is kept from running on purpose: frozen, traced, or stopped from a terminal.
    Paused,
    /// Another process of it died, and its main process lives.
    WorkerDied,
    /// Its process lives and does not answer.
    Hung,
    /// It answers, later than it should.
    Slow,
    /// It fails because the host, or its share of it, is overloaded.
    Overloaded,
    /// What it depends on has failed.
    DependencyDown,
    /// Its dependency is healthy again, and it is not.
    Unhealed,
    /// A database has no connections left, or nearly none.
    PoolExhausted,
    /// A store is full and refuses writes.
    MemoryFull,
    /// The network, or another host, does not answer.
    Network,
    /// It uses more than it should.
    LimitExceeded,
    /// A resource of it will reach its limit at its present slope.
    Exhausting,
    /// A listener of it has had no room for more connections for a while.
    BacklogFull,
    /// hostprobe itself lacks descriptors, memory, threads or ports. It says nothing of a service.
    AgentImpaired,
    /// More restarts are due than the budget of all services allows. It says nothing of one service.
    RestartStorm,
    /// Other hosts of the fleet are not heard any more. It says nothing of a service.
    HostSilent,
    /// A file system is full, or will soon be.
    HostDiskFull,
    /// A file system can take nearly no further files.
    HostInodes,
    /// A file system that was writable is not any more.
    HostReadOnly,
    /// Nearly no memory is left, or tasks wait for memory much of the time.
    HostMemory,
    /// Tasks wait for a CPU or a disk for more of the time than the configuration allows.
    HostPressure,
    /// The hypervisor gives CPU time to other machines.
    HostCpuSteal,
    /// Nearly no further process or thread can be started.
    HostPids,
    /// Nearly no further file can be opened.
    HostFiles,
    /// The table of tracked connections is nearly full, and packets of new ones are dropped.
    HostConntrack,
    /// Nearly no local port is left for connections to one address.
    HostPorts,
    /// The neighbour table is nearly full, and hosts of the local network cannot be reached.
    HostNeighbours,
    /// The clock is wrong, jumped, or is not kept right any more.
    HostClock,
    /// The host started again without being shut down.
    HostRebooted,
    /// The kernel reports a task that has not run for minutes.
    HostHungTask,
    /// The kernel reports that a disk fails to read or write.
    HostBlockErrors,
    /// The kernel reports that a file system is damaged.
    HostFsErrors,
    /// The hardware reports memory errors.
    HostMemoryErrors,
    /// CPUs are slowed down because they are too hot.
    HostThermal,
}

impl Verdict {
    /// Every verdict, in the order of the documentation.
    pub const ALL: [Self; 44] = [
        Self::Crashed,
        Self::Exited,
        Self::OomKilled,
        Self::Killed,
        Self::Stopped,
        Self::StartFailed,
        Self::NotListening,
        Self::Hung,
        Self::Paused,
        Self::Unhealthy,
        Self::WorkerDied,
        Self::Slow,
        Self::LimitExceeded,
        Self::Exhausting,
        Self::BacklogFull,
        Self::Overloaded,
        Self::DependencyDown,
        Self::Unhealed,
        Self::PoolExhausted,
        Self::MemoryFull,
        Self::Network,
        Self::CrashLoop,
        Self::RestartedByOther,
        Self::AgentImpaired,
        Self::RestartStorm,
        Self::HostSilent,
        Self::HostDiskFull,
        Self::HostInodes,
        Self::HostReadOnly,
        Self::HostMemory,
        Self::HostPressure,
        Self::HostCpuSteal,
        Self::HostPids,
        Self::HostFiles,
        Self::HostConntrack,
        Self::HostPorts,
        Self::HostNeighbours,
        Self::HostClock,
        Self::HostRebooted,
        Self::HostHungTask,
        Self::HostBlockErrors,
        Self::HostFsErrors,
        Self::HostMemoryErrors,
        Self::HostThermal,
    ];

    /// The word used for it in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crashed => "crashed",
            Self::Exited => "exited",
            Self::OomKilled => "oom_killed",
            Self::Killed => "killed",
            Self::Stopped => "stopped",
            Self::StartFailed => "start_failed",
            Self::NotListening => "not_listening",
            Self::Unhealthy => "unhealthy",
            Self::CrashLoop => "crash_loop",
            Self::RestartedByOther => "restarted_by_other",
            Self::Paused => "paused",
            Self::WorkerDied => "worker_died",
            Self::Hung => "hung",
            Self::Slow => "slow",
            Self::Overloaded => "overloaded",
            Self::DependencyDown => "dependency_down",
            Self::Unhealed => "unhealed",
            Self::PoolExhausted => "pool_exhausted",
            Self::MemoryFull => "memory_full",
            Self::Network => "network",
            Self::LimitExceeded => "limit_exceeded",
            Self::Exhausting => "exhausting",
            Self::BacklogFull => "backlog_full",
            Self::AgentImpaired => "agent_impaired",
            Self::RestartStorm => "restart_storm",
            Self::HostSilent => "host_silent",
            Self::HostDiskFull => "host_disk_full",
            Self::HostInodes => "host_inodes",
            Self::HostReadOnly => "host_read_only",
            Self::HostMemory => "host_memory",
            Self::HostPressure => "host_pressure",
            Self::HostCpuSteal => "host_cpu_steal",
            Self::HostPids => "host_pids",
            Self::HostFiles => "host_files",
            Self::HostConntrack => "host_conntrack",
            Self::HostPorts => "host_ports",
            Self::HostNeighbours => "host_neighbours",
            Self::HostClock => "host_clock",
            Self::HostRebooted => "host_rebooted",
            Self::HostHungTask => "host_hung_task",
            Self::HostBlockErrors => "host_block_errors",
            Self::HostFsErrors => "host_fs_errors",
            Self::HostMemoryErrors => "host_memory_errors",
            Self::HostThermal => "host_thermal",
        }
    }
}

/// How loud an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// For the record.
    Info,
    /// A person should look today.
    Warning,
    /// A person should look at once.
    Critical,
}

impl Severity {
    /// The word used for it in events and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A service as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceState {
    /// It has just started, or hostprobe knows nothing of it yet.
    Starting,
    /// All is well.
    Healthy,
    /// It works, but not as it should: slow, or above a limit.
    Degraded,
    /// It runs, but its probes fail.
    Unhealthy,
    /// It does not run.
    Down,
    /// It was stopped on purpose.
    Stopped,
    /// The operator has paused the watch.
    Paused,
}

impl ServiceState {
    /// The word used for it in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
            Self::Down => "down",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
        }
    }
}

/// An incident's number, from 1 at the daemon's start, and the run of the daemon that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IncidentId {
    pub number: u64,
    /// None: the present run. Its `agent.ephemeral_id` otherwise, as a number.
    pub run: Option<u32>,
}

impl IncidentId {
    /// An incident of the present run.
    pub const fn new(number: u64) -> Self {
        Self { number, run: None }
    }
}

/// Whether a person means the incident with this published id: by the id, or by the number at its end, as in `i7` or `7`.
pub fn is_incident_meant(word: &str, id: &str) -> bool {
    id == word || id.rsplit_once("-i").is_some_and(|(_, number)| number == word.trim_start_matches('i'))
}

/// The steps of an incident, each counted from the fault's own (kernel) timestamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// The daemon knew of the fault.
    pub detected: Option<Duration>,
    /// The verdict was reached.
    pub decided: Option<Duration>,
    /// The restart was issued.
    pub acted: Option<Duration>,
    /// The service listened again.
    pub listening: Option<Duration>,
    /// Its probes answered again.
    pub healthy: Option<Duration>,
}

/// The phase of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It has just been opened.
    Open,
    /// Its verdict, its evidence or the action has changed.
    Update,
    /// It is over.
    Resolve,
}

/// One incident of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    pub id: IncidentId,
    /// The service that failed.
    pub service: ServiceId,
    pub verdict: Verdict,
    /// The confidence in the verdict, 0 to 1: 1 for the kernel's own report, less for probes alone.
    pub confidence: f32,
    /// One sentence for a person.
    pub summary: String,
    /// The present severity.
    pub severity: Severity,
    /// The service that is the cause; the same as `service` unless another one is found.
    pub cause: ServiceId,
    /// The events it was reached from.
    pub evidence: Vec<EventId>,
    /// Services whose restart or alert is held because of it.
    pub held: Vec<ServiceId>,
    /// When the fault happened.
    pub since: Timestamp,
    /// The times of its steps.
    pub timing: Timing,
    /// The number of restarts so far.
    pub attempts: u32,
    /// The file with what was seen of its processes before they were ended, if there is one.
    pub snapshot: Option<String>,
    #[serde(default)]
    pub context: FaultContext,
    /// The operator whose drill caused it, for people.
    #[serde(default)]
    pub drill: Option<String>,
    /// What of the host it is about, if it is about the host.
    #[serde(default)]
    pub host: Option<HostSubject>,
    pub earlier: Earlier,
}

impl Incident {
    /// When the fault happened, by the wall clock as it stands now.
    pub fn began(&self) -> jiff::Timestamp {
        self.since.to_wall().saturating_sub(self.earlier.before_boot).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

/// What a person wants to know of a fault, and no decision depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultContext {
    /// The last lines that the service logged, oldest first.
    pub logs: Vec<String>,
    /// What was changed of the service or of the host's packages shortly before, in words, latest first.
    pub changes: Vec<String>,
    /// When each of `changes` was made, in microseconds since 1970.
    #[serde(default)]
    pub changed_at: Vec<i64>,
    /// What the threads waited for, if the service hung.
    #[serde(default)]
    pub stacks: Option<Box<HangStacks>>,
    /// Where the main process crashed.
    #[serde(default)]
    pub crash: Option<Box<CrashSite>>,
    /// Who took the memory, if it ran out.
    #[serde(default)]
    pub culprit: Option<Box<Culprit>>,
    /// Who ended it, or asked for its end.
    #[serde(default)]
    pub actor: Option<Box<Actor>>,
}

impl FaultContext {
    pub fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let stacks = self.stacks.iter_mut().flat_map(|it| it.texts());
        let of_crash = self.crash.iter_mut().flat_map(|crash| crash.texts());
        let culprit = self.culprit.iter_mut().flat_map(|it| it.texts());
        let actor = self.actor.iter_mut().flat_map(|it| it.texts());
        let lines = self.logs.iter_mut().chain(&mut self.changes);
        lines.chain(stacks).chain(of_crash).chain(culprit).chain(actor)
    }
}

/// What an incident has from earlier runs of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Earlier {
    /// The published ids of evidence.
    pub evidence: Vec<String>,
    /// How long before the boot of the host the fault happened; its `since` is the boot then.
    pub before_boot: Duration,
}

/// The way a service is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RestartMethod {
    /// systemd's `RestartUnit`.
    Systemd,
    /// The built-in supervisor.
    Supervisor,
    /// The API of the container's engine.
    Container,
    /// The configured command.
    Command,
    /// None: another supervisor restarts it, or none does.
    None,
}

impl RestartMethod {
    /// The word used for it in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Supervisor => "supervisor",
            Self::Container => "container",
            Self::Command => "command",
            Self::None => "none",
        }
    }
}

/// A step of a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The daemon requests it.
    Request,
    /// It was carried out; the service is yet to prove healthy.
    Done,
    /// It could not be carried out, and why.
    Fail(String),
    /// The daemon holds it on purpose, for this reason.
    Hold(String),
}

/// A restart, asked for, done, failed or held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    pub service: ServiceId,
    pub incident: Option<IncidentId>,
    pub method: RestartMethod,
    /// Which try of this incident, from 1.
    pub attempt: u32,
    /// Why: the verdict in a sentence.
    pub reason: String,
    /// The restarts that the budget allows after this one.
    pub budget_left: u32,
    /// The step.
    pub action: Action,
}

/// An alert that an operator's order holds back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuppressedAlert {
    pub incident: IncidentId,
    pub service: ServiceId,
    pub severity: Severity,
    pub reason: String,
}

/// Why an open incident asks for no attention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertSilence {
    /// Such as `acknowledged by root: on it`.
    pub reason: String,
    /// An operator has taken it on. Else its service is paused.
    pub acknowledged: bool,
}

/// What came of a test message to a receiver of alerts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertTestOutcome {
    pub receiver: String,
    /// None if the receiver took the opening and its end.
    pub error: Option<String>,
}

/// How the delivery of one alert went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertOutcome {
    pub incident: IncidentId,
    /// The service it is about.
    pub service: ServiceId,
    /// The receiver, without its secrets.
    pub receiver: String,
    /// How loud.
    pub severity: Severity,
    /// True for the message that the incident is over.
    pub resolved: bool,
    /// The number of attempts so far.
    pub attempts: u32,
    /// None if it was delivered; else why not.
    pub error: Option<String>,
}
