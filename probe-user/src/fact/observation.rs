//! The engine's inputs.

use serde::{Deserialize, Serialize};

use super::{
    AcceptQueue, CoreSignal, EventId, Examination, FaultContext, FleetState, ForeignService, HangStacks,
    Holder, HostReading, Listener, Membership, Memory, OomKill, OperatorCommand, OutsideRequest, PortHolder,
    Pressure, ProbeReport, ProcessExit, ProcessKey, ResourceLevel, ResourceUsage, RestartBudget, Retransmits,
    ServiceId, ServiceSettings, SocketError, Successor, Suspension, Unanswered, UnitState, Writes,
};
use crate::clock::Timestamp;

/// Everything that can change a decision.
#[allow(clippy::large_enum_variant, reason = "each is handled at once, and few are kept")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Observation {
    /// A service's main process runs.
    Running(ServiceId, ProcessKey),
    /// The ports that a service's processes listened on before the daemon started, one for each socket.
    Listening(ServiceId, Vec<u16>),
    /// A process of a service ended.
    Exit(ProcessExit, Membership, EventId),
    /// The OOM killer chose a process of a service; its exit follows.
    OomKill(OomKill, Membership, EventId),
    /// A service's listener came or went.
    Listener(Listener, ServiceId, EventId),
    /// Another process asked a service's main process to end by a signal, at this time; its listener has closed since.
    AskedToEnd(ServiceId, Timestamp),
    /// A program asked for a stop, a restart or an end of a service.
    OutsideRequest(ServiceId, Box<OutsideRequest>),
    /// Whether a process of a service holds a listener on a port.
    ListenerChecked(ServiceId, u16, bool),
    /// A probe ended.
    Probe(ProbeReport),
    /// Two attempts of a probe wait, and what a service's processes do meanwhile.
    Unanswered(Unanswered, Examination),
    /// The state of a service's unit, requested or not.
    Unit(ServiceId, UnitState),
    /// systemd did not answer, for this reason.
    UnitUnknown(ServiceId, String),
    /// A restart succeeded or failed.
    #[serde(rename = "Restarted")]
    RestartOutcome(ServiceId, Result<(), String>),
    /// A restart waits until the daemon has the descriptors, memory or threads that it takes, with the error.
    RestartDelayed(ServiceId, String),
    /// What a service's processes use.
    Usage(ServiceId, ResourceUsage),
    /// What it used of the resources whose growth is watched.
    Levels(ServiceId, Vec<ResourceLevel>),
    /// A socket of a service had an error.
    SocketError(SocketError, ServiceId, EventId),
    /// Segments of a service had to be sent again.
    Retransmits(Retransmits, ServiceId, EventId),
    /// A listener of a service has no room for more connections.
    AcceptQueue(AcceptQueue, ServiceId, EventId),
    /// A service's main process was stopped by a signal.
    Suspended(Suspension, ServiceId, EventId),
    /// A service's main process was sent a signal that ends it with a core dump.
    CoreSignal(CoreSignal, ServiceId),
    /// A service connects to another one.
    Connected {
        /// The one that connects.
        client: ServiceId,
        /// The one that it connects to.
        server: ServiceId,
    },
    /// The examination of a service's processes; None if there were none.
    Examined(ServiceId, Option<Examination>),
    /// What was seen of a service's processes was written to this file, or could not be, and why.
    Snapshot(ServiceId, Result<String, String>),
    /// What the threads of a service that hangs wait for.
    Stacks(ServiceId, HangStacks),
    /// What explains a service's fault to a person.
    Context(ServiceId, FaultContext),
    /// The process that listens on one of a service's ports; None if there is none.
    PortHolder(ServiceId, Option<PortHolder>),
    /// The process that takes the place of a main process that ended; None if there is none.
    Successor(ServiceId, Option<Successor>),
    /// The holders of the connections to a service, largest first, from this host's sockets.
    Holders(ServiceId, Vec<Holder>),
    /// An operator wants something of a service.
    Operator(ServiceId, OperatorCommand),
    /// What an earlier run of the daemon knew of a service, which the present one may not have any more.
    Remembered(ServiceId, Box<Memory>),
    /// A reload added a service, or changed its settings.
    Configured(ServiceId, Box<ServiceSettings>),
    /// A reload removed a service.
    Removed(ServiceId),
    /// A reload changed the restart budget of all services together.
    RestartBudget(RestartBudget),
    /// A check of the host found something that is at its limit or near it, or that is no more.
    Host(HostReading),
    /// The file systems that the processes of a service write to.
    WritesTo(ServiceId, Writes),
    /// How hard the host is pressed.
    Pressure(Pressure),
    /// The daemon does not see all connections: short ones are missed.
    ConnectionsUnseen,
    /// What another host reports of a service that services of this one connect to.
    Foreign(Box<ForeignService>),
    /// The services of other hosts that are held because of a service's incident.
    HeldElsewhere(ServiceId, Vec<ServiceId>),
    /// What is known of the fleet as a whole.
    Fleet(FleetState),
}

impl Observation {
    /// The service that it concerns; None if it concerns all services.
    pub fn service(&self) -> Option<ServiceId> {
        match self {
            Self::Exit(_, member, _) | Self::OomKill(_, member, _) => Some(member.service),
            Self::Probe(report) => Some(report.service),
            Self::Unanswered(unanswered, _) => Some(unanswered.service),
            Self::Running(id, _)
            | Self::Listening(id, _)
            | Self::Listener(_, id, _)
            | Self::Unit(id, _)
            | Self::UnitUnknown(id, _)
            | Self::RestartOutcome(id, _)
            | Self::RestartDelayed(id, _)
            | Self::Usage(id, _)
            | Self::Levels(id, _)
            | Self::SocketError(_, id, _)
            | Self::Retransmits(_, id, _)
            | Self::AcceptQueue(_, id, _)
            | Self::Suspended(_, id, _)
            | Self::CoreSignal(_, id)
            | Self::Examined(id, _)
            | Self::Snapshot(id, _)
            | Self::Stacks(id, _)
            | Self::Context(id, _)
            | Self::AskedToEnd(id, _)
            | Self::OutsideRequest(id, _)
            | Self::PortHolder(id, _)
            | Self::Holders(id, _)
            | Self::Successor(id, _)
            | Self::ListenerChecked(id, ..)
            | Self::Operator(id, _)
            | Self::Remembered(id, _)
            | Self::Configured(id, _)
            | Self::WritesTo(id, _)
            | Self::Removed(id)
            | Self::HeldElsewhere(id, _)
            | Self::Connected { client: id, .. } => Some(*id),
            Self::RestartBudget(_)
            | Self::Host(_)
            | Self::Pressure(_)
            | Self::ConnectionsUnseen
            | Self::Foreign(_)
            | Self::Fleet(_) => None,
        }
    }
}
