//! What the daemon publishes.

use super::{
    AcceptQueue, AgentReady, AgentStart, AlertOutcome, HookRun, HostState, Incident, Listener, Membership,
    OomKill, OperatorReport, Phase, ProbeChange, ProbeReport, ProcessExit, Reload, Restart, Retransmits,
    ServiceId, ServiceState, SocketError, Source, SuppressedAlert, Suspension, UnitState,
};

/// A fact that becomes an event of the stream.
#[allow(clippy::large_enum_variant, reason = "each is handled at once, and few are kept")]
#[derive(Clone, Debug)]
pub enum Fact {
    /// The daemon starts.
    AgentStart(AgentStart),
    /// The daemon watches: what it can see of the kernel.
    AgentReady(AgentReady),
    /// A reload was asked for.
    AgentReload(Reload),
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
    /// The first service connected to a port of the second for the first time, and the process that did.
    Dependency(ServiceId, ServiceId, u16, Source),
    /// The state of a unit, read for a decision.
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
    /// An alert is held back.
    AlertSuppressed(SuppressedAlert),
    /// A check of the host has found trouble, or its end.
    HostState(HostState),
    /// A program of the user's ran.
    Hook(HookRun),
    /// An operator gave a command.
    Operator(OperatorReport),
    /// A loss: the class of the lost items, their number, and the place.
    Loss {
        /// What was lost.
        class: String,
        /// The number of lost items.
        count: u64,
        /// Where.
        place: String,
    },
}
