//! The vocabulary: what the daemon can know and say, as plain data.
//!
//! Every layer speaks these types. The kernel's records and `/proc` are turned into them, the engine
//! decides on them, and [`crate::emit`] alone turns them into JSON.

pub mod health;
pub mod incident;
pub mod observation;
pub mod place;
pub mod probe;
pub mod process;
pub mod socket;
pub mod unit;

pub use health::{Examination, Pressure, ResourceUsage, ServerUsage, Share};
pub use incident::{
    Action, AlertOutcome, Incident, IncidentId, Phase, Restart, RestartMethod, ServiceState, Severity,
    Timing, Verdict,
};
pub use observation::Observation;
pub use place::{CgroupMode, Container, INITIAL_PID_NAMESPACE, Place};
pub use probe::{ProbeFailure, ProbeKind, ProbeOutcome, ProbeReport};
pub use process::{
    Cgroup, ExitStatus, Listener, OomKill, OomScope, Process, ProcessExit, ProcessKey, Sender,
};
use serde::{Deserialize, Serialize};
pub use socket::{
    AcceptQueue, Direction, Holder, Peer, PortHolder, Protocol, Retransmits, SocketError, Suspension,
    TcpState,
};
pub use unit::{UnitJob, UnitState};

use crate::clock::Timestamp;

/// An event's place in the stream, from 1 at the daemon's start; evidence refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventId(pub u64);

/// A configured or discovered service, by its position in the running configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceId(pub u32);

/// One thing to be said in the event stream.
#[derive(Clone, Debug)]
pub enum Fact {
    /// The daemon starts.
    AgentStart(AgentStart),
    /// The daemon watches: what it can see of the kernel.
    AgentReady(AgentReady),
    /// A reload was asked for: None if it took effect, else why it was refused.
    AgentReload(Option<String>),
    /// The daemon ends, and why.
    AgentStop(String),
    /// A process ended.
    ProcessExit(ProcessExit, Option<Membership>),
    /// The OOM killer chose a process.
    OomKill(OomKill, Option<Membership>),
    /// A service's listener came or went.
    Listener(Listener, ServiceId),
    /// A socket of a service had an error, or several of the same kind.
    SocketError(SocketError, ServiceId),
    /// Segments of a service had to be sent again.
    Retransmits(Retransmits, ServiceId),
    /// A listener of a service has no room for more connections.
    AcceptQueue(AcceptQueue, ServiceId),
    /// A service's main process was stopped by a signal.
    Suspension(Suspension, ServiceId),
    /// The first service was seen to connect to a port of the second, and by whom.
    Dependency(ServiceId, ServiceId, u16, Source),
    /// systemd's word on a unit, read to decide.
    Unit(UnitState, ServiceId),
    /// A probe's result worth telling.
    Probe(ProbeReport, ProbeChange),
    /// A service changed its state: the new one, the previous one, and why.
    ServiceState(ServiceId, ServiceState, ServiceState, String),
    /// An incident opened, changed or ended.
    Incident(Phase, Incident),
    /// A step of a restart.
    Restart(Restart),
    /// An alert was delivered, or was not.
    Alert(AlertOutcome),
    /// The engine takes in an observation, or, without one, does what is due.
    Observed(Option<Box<Observation>>),
    /// Something was lost on its way: its class, how many, and where.
    Loss {
        /// What was lost.
        class: String,
        /// How many.
        count: u64,
        /// Where.
        place: String,
    },
}

/// That a process belongs to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The service.
    pub service: ServiceId,
    /// True for the service's main process.
    pub main: bool,
}

/// Why a probe's result is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeChange {
    /// It failed; how often in a row.
    Fail(u32),
    /// It succeeded after failures; how many there were.
    Recover(u32),
    /// It succeeded, above its limit.
    Slow,
}

/// How the daemon starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentStart {
    /// The configuration file, if there is one.
    pub config_file: Option<String>,
    /// When the engine begins to count time.
    pub start: Timestamp,
    /// Restart nothing, whatever the configuration says.
    pub observe: bool,
    /// The fingerprint of what decides in the configuration.
    pub digest: String,
    /// The services' names in the order of their ids.
    pub services: Vec<String>,
}

/// What the daemon can see, once it watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentReady {
    /// Where the daemon runs.
    pub place: Place,
    /// Hook by hook.
    pub coverage: Vec<HookCoverage>,
    /// The result of the self-test: how long a child's death took to come back through the ring, or why
    /// it did not.
    pub self_test: Result<std::time::Duration, String>,
    /// How many services are watched.
    pub services: u32,
    /// How many of them may be restarted.
    pub restartable: u32,
}

/// One kernel hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookCoverage {
    /// The tracepoint's name.
    pub hook: &'static str,
    /// None if it is attached; else why not.
    pub missing: Option<String>,
    /// What tells of the same instead, and what that cannot tell; None if it is attached, or nothing does.
    pub stand_in: Option<String>,
    /// What its records lack on this kernel, each with the reason.
    pub lacking: Vec<String>,
}

/// Where a fact was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// An eBPF program saw it happen.
    Ebpf,
    /// `/proc`, a cgroup file, a pidfd, or the exit status of our own child.
    Proc,
    /// The kernel said so over netlink: its process connector, or its list of sockets.
    Netlink,
    /// The kernel's log said so.
    Kmsg,
    /// systemd said so over D-Bus.
    Dbus,
    /// A probe of ours found it.
    Probe,
    /// The engine concluded it.
    Engine,
}

impl Source {
    /// The word used for it in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Proc => "proc",
            Self::Netlink => "netlink",
            Self::Kmsg => "kmsg",
            Self::Dbus => "dbus",
            Self::Probe => "probe",
            Self::Engine => "engine",
        }
    }
}
