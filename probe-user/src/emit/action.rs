//! The actions of events (`event.action`), and the fields that each always carries.
//!
//! One table serves both sides: the renderer takes an event's kind, category and type from it, the schema its
//! conditions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fact::{self, Fact, Phase, ProbeChange};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Action {
    /// The daemon starts.
    #[serde(rename = "agent.start")]
    AgentStart,
    /// The daemon watches, and reports what it can observe.
    #[serde(rename = "agent.ready")]
    AgentReady,
    /// A reload of the configuration took effect or was refused.
    #[serde(rename = "agent.reload")]
    AgentReload,
    /// The daemon ends.
    #[serde(rename = "agent.stop")]
    AgentStop,
    /// A process ended.
    #[serde(rename = "process.exit")]
    ProcessExit,
    /// The OOM killer chose a process; its exit follows.
    #[serde(rename = "process.oom_kill")]
    ProcessOomKill,
    /// A service began to listen on a TCP port.
    #[serde(rename = "listener.up")]
    ListenerUp,
    /// A service's listener has closed.
    #[serde(rename = "listener.down")]
    ListenerDown,
    /// A socket of a service had an error: the first at once, then the number of further ones.
    #[serde(rename = "socket.error")]
    SocketError,
    /// A service's TCP retransmits, summed up per address.
    #[serde(rename = "socket.retransmit")]
    SocketRetransmit,
    /// A service's accept queue is full.
    #[serde(rename = "socket.backlog")]
    SocketBacklog,
    /// A resource of a service will reach its limit within `growth`.
    #[serde(rename = "service.growth")]
    ServiceGrowth,
    /// A signal stopped a service's main process: it lives and does nothing.
    #[serde(rename = "process.suspend")]
    ProcessSuspend,
    /// A service connected to another service's port for the first time.
    #[serde(rename = "service.dependency")]
    ServiceDependency,
    /// The state of a service's unit, read for a decision.
    #[serde(rename = "unit.state")]
    UnitState,
    /// A probe failed.
    #[serde(rename = "probe.fail")]
    ProbeFail,
    /// A probe succeeded after failures.
    #[serde(rename = "probe.recover")]
    ProbeRecover,
    /// A probe succeeded, but took longer than its limit.
    #[serde(rename = "probe.slow")]
    ProbeSlow,
    /// A service's state changed.
    #[serde(rename = "service.state")]
    ServiceState,
    /// A check of the host found trouble, or its end.
    #[serde(rename = "host.state")]
    HostState,
    /// An incident opened.
    #[serde(rename = "incident.open")]
    IncidentOpen,
    /// An incident's verdict, evidence or treatment changed.
    #[serde(rename = "incident.update")]
    IncidentUpdate,
    /// An incident is over.
    #[serde(rename = "incident.resolve")]
    IncidentResolve,
    /// The daemon requests a restart.
    #[serde(rename = "restart.request")]
    RestartRequest,
    /// A restart succeeded. If the service is well before its supervisor says so, this follows the end of the incident.
    #[serde(rename = "restart.done")]
    RestartDone,
    /// A restart failed.
    #[serde(rename = "restart.fail")]
    RestartFail,
    /// The daemon holds a restart on purpose.
    #[serde(rename = "restart.hold")]
    RestartHold,
    /// An alert was delivered.
    #[serde(rename = "alert.send")]
    AlertSend,
    /// An alert is not delivered yet.
    #[serde(rename = "alert.fail")]
    AlertFail,
    /// An operator's pause or acknowledgement holds an alert back.
    #[serde(rename = "alert.suppress")]
    AlertSuppress,
    /// A program of the user's ran; with `error` if it failed.
    #[serde(rename = "hook.run")]
    HookRun,
    /// An operator gave a command; with `error` if it was refused or failed.
    #[serde(rename = "operator.command")]
    OperatorCommand,
    /// Events, records or lines were lost.
    #[serde(rename = "stream.loss")]
    StreamLoss,
}

/// The broadest class of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something happened.
    Event,
    /// A measured state.
    State,
    /// The delivery of an alert.
    Alert,
    /// The stream itself misses events.
    PipelineError,
}

/// The common properties of all events of an action.
#[derive(Debug)]
pub struct Shape {
    /// `event.kind`.
    pub kind: Kind,
    /// `event.category`.
    pub category: &'static str,
    /// `event.type`.
    pub types: &'static str,
    /// Dotted paths of the fields that it always carries, beyond those of every event.
    pub requires: &'static [&'static str],
    /// Dotted paths of two fields of which it carries one, or none if neither is known.
    pub either: &'static [&'static str],
}

const INCIDENT: &[&str] = &[
    "service.name",
    "incident.verdict",
    "incident.confidence",
    "incident.severity",
    "incident.summary",
    "incident.cause",
    "incident.evidence",
    "incident.held",
    "incident.since",
    "incident.attempts",
    "incident.timing",
];
const PROCESS: &[&str] = &["process.uptime_ms", "process.oom"];
const SOCKET: &[&str] =
    &["service.name", "socket.error", "socket.protocol", "socket.count", "client", "server"];
const RETRANSMIT: &[&str] = &["service.name", "retransmit"];
const LISTENER: &[&str] = &["service.name", "process", "server"];

impl Action {
    /// Every action, in the order of the documentation.
    pub const ALL: [Self; 33] = [
        Self::AgentStart,
        Self::AgentReady,
        Self::AgentReload,
        Self::AgentStop,
        Self::ProcessExit,
        Self::ProcessOomKill,
        Self::ListenerUp,
        Self::ListenerDown,
        Self::SocketError,
        Self::SocketRetransmit,
        Self::SocketBacklog,
        Self::ServiceGrowth,
        Self::ProcessSuspend,
        Self::ServiceDependency,
        Self::UnitState,
        Self::ProbeFail,
        Self::ProbeRecover,
        Self::ProbeSlow,
        Self::ServiceState,
        Self::HostState,
        Self::IncidentOpen,
        Self::IncidentUpdate,
        Self::IncidentResolve,
        Self::RestartRequest,
        Self::RestartDone,
        Self::RestartFail,
        Self::RestartHold,
        Self::AlertSend,
        Self::AlertFail,
        Self::AlertSuppress,
        Self::HookRun,
        Self::OperatorCommand,
        Self::StreamLoss,
    ];

    /// The action of a fact's event.
    pub fn of(fact: &Fact) -> Self {
        match fact {
            Fact::AgentStart(_) => Self::AgentStart,
            Fact::AgentReady(_) => Self::AgentReady,
            Fact::AgentReload(_) => Self::AgentReload,
            Fact::AgentStop(_) => Self::AgentStop,
            Fact::ProcessExit(..) => Self::ProcessExit,
            Fact::OomKill(..) => Self::ProcessOomKill,
            Fact::Listener(listener, _) if listener.up => Self::ListenerUp,
            Fact::Listener(..) => Self::ListenerDown,
            Fact::SocketError(..) => Self::SocketError,
            Fact::Retransmits(..) => Self::SocketRetransmit,
            Fact::AcceptQueue(..) => Self::SocketBacklog,
            Fact::Growth(..) => Self::ServiceGrowth,
            Fact::Suspension(..) => Self::ProcessSuspend,
            Fact::Dependency(..) => Self::ServiceDependency,
            Fact::Unit(..) => Self::UnitState,
            Fact::Probe(_, ProbeChange::Fail(_)) => Self::ProbeFail,
            Fact::Probe(_, ProbeChange::Recover(_)) => Self::ProbeRecover,
            Fact::Probe(_, ProbeChange::Slow) => Self::ProbeSlow,
            Fact::ServiceState(..) => Self::ServiceState,
            Fact::HostState(_) => Self::HostState,
            Fact::Incident(Phase::Open, _) => Self::IncidentOpen,
            Fact::Incident(Phase::Update, _) => Self::IncidentUpdate,
            Fact::Incident(Phase::Resolve, _) => Self::IncidentResolve,
            Fact::Restart(restart) => match restart.action {
                fact::Action::Request => Self::RestartRequest,
                fact::Action::Done => Self::RestartDone,
                fact::Action::Fail(_) => Self::RestartFail,
                fact::Action::Hold(_) => Self::RestartHold,
            },
            Fact::Alert(outcome) if outcome.error.is_none() => Self::AlertSend,
            Fact::Alert(_) => Self::AlertFail,
            Fact::AlertSuppressed(_) => Self::AlertSuppress,
            Fact::Hook(_) => Self::HookRun,
            Fact::Operator(_) => Self::OperatorCommand,
            Fact::Loss { .. } => Self::StreamLoss,
        }
    }

    /// Whether a line is among the last to be lost: what the daemon decided and did, and what it lost. The observations
    /// that lead to it can be many; these are few.
    pub const fn is_essential(self) -> bool {
        match self {
            Self::AgentStart
            | Self::AgentReady
            | Self::AgentReload
            | Self::AgentStop
            | Self::ServiceState
            | Self::HostState
            | Self::IncidentOpen
            | Self::IncidentUpdate
            | Self::IncidentResolve
            | Self::RestartRequest
            | Self::RestartDone
            | Self::RestartFail
            | Self::RestartHold
            | Self::AlertSend
            | Self::AlertFail
            | Self::AlertSuppress
            | Self::HookRun
            | Self::OperatorCommand
            | Self::StreamLoss => true,
            Self::ProcessExit
            | Self::ProcessOomKill
            | Self::ListenerUp
            | Self::ListenerDown
            | Self::SocketError
            | Self::SocketRetransmit
            | Self::SocketBacklog
            | Self::ServiceGrowth
            | Self::ProcessSuspend
            | Self::ServiceDependency
            | Self::UnitState
            | Self::ProbeFail
            | Self::ProbeRecover
            | Self::ProbeSlow => false,
        }
    }

    #[rustfmt::skip] // A table reads best as one.
    pub const fn shape(self) -> Shape {
        use Kind::{Alert, Event, PipelineError, State};
        let (kind, category, types, requires): (_, _, _, &[&str]) = match self {
            Self::AgentStart      => (Event, "process", "start", &[]),
            Self::AgentReady      => (Event, "process", "info", &["coverage", "place", "self_test", "watching"]),
            Self::AgentReload     => (Event, "configuration", "change", &[]),
            Self::AgentStop       => (Event, "process", "end", &["event.reason"]),
            Self::ProcessExit     => (Event, "process", "end", PROCESS),
            Self::ProcessOomKill  => (Event, "process", "info", &["process.name", "oom"]),
            Self::ListenerUp      => (Event, "network", "start", LISTENER),
            Self::ListenerDown    => (Event, "network", "end", LISTENER),
            Self::SocketError     => (Event, "network", "connection", SOCKET),
            Self::SocketRetransmit => (Event, "network", "info", RETRANSMIT),
            Self::SocketBacklog   => (Event, "network", "info", &["service.name", "server", "accept_queue"]),
            Self::ServiceGrowth   => (Event, "host", "info", &["service.name", "growth"]),
            Self::ProcessSuspend  => (Event, "process", "change", &["service.name", "process.received_signal"]),
            Self::ServiceDependency => (Event, "network", "connection", &["service.name", "dependency"]),
            Self::UnitState       => (State, "host", "info", &["service.name", "unit"]),
            Self::ProbeFail       => (Event, "network", "info", &["service.name", "probe.consecutive"]),
            Self::ProbeRecover    => (Event, "network", "info", &["service.name", "probe.consecutive"]),
            Self::ProbeSlow       => (Event, "network", "info", &["service.name", "probe"]),
            Self::ServiceState    => (State, "host", "change", &["service.state", "service.previous", "event.reason"]),
            Self::HostState       => (State, "host", "change", &["service.name", "host_check.value", "host_check.limit", "event.reason"]),
            Self::IncidentOpen    => (Event, "host", "start", INCIDENT),
            Self::IncidentUpdate  => (Event, "host", "change", INCIDENT),
            Self::IncidentResolve => (Event, "host", "end", INCIDENT),
            Self::RestartRequest  => (Event, "process", "info", &["service.name", "restart"]),
            Self::RestartDone     => (Event, "process", "start", &["service.name", "restart"]),
            Self::RestartFail     => (Event, "process", "info", &["service.name", "restart", "error"]),
            Self::RestartHold     => (Event, "process", "info", &["service.name", "restart", "event.reason"]),
            Self::AlertSend       => (Alert, "host", "info", &["service.name", "incident.id", "alert.receiver"]),
            Self::AlertFail       => (Alert, "host", "info", &["service.name", "incident.id", "alert.receiver", "error"]),
            Self::AlertSuppress   => (Alert, "host", "info", &["service.name", "incident.id", "alert", "event.reason"]),
            Self::HookRun         => (Event, "process", "info", &["service.name", "hook"]),
            Self::OperatorCommand => (Event, "host", "change", &["operator.command", "user.id"]),
            Self::StreamLoss      => (PipelineError, "host", "info", &["loss"]),
        };
        let either: &[&str] =
            if matches!(self, Self::ProcessExit) { &["process.exit_code", "process.exit_signal"] } else { &[] };
        Shape { kind, category, types, requires, either }
    }
}
