//! The engine's inputs.

use serde::{Deserialize, Serialize};

use super::{
    AcceptQueue, EventId, Examination, Holder, Listener, Membership, OomKill, PortHolder, Pressure,
    ProbeReport, ProcessExit, ProcessKey, ResourceUsage, Retransmits, ServiceId, SocketError, Suspension,
    UnitState,
};

/// Everything that can change a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Observation {
    /// A service's main process runs.
    Running(ServiceId, ProcessKey),
    /// The ports a service's processes listened on before anybody watched, one for each socket.
    Listening(ServiceId, Vec<u16>),
    /// A process of a service ended.
    Exit(ProcessExit, Membership, EventId),
    /// The OOM killer chose a process of a service; its exit follows.
    OomKill(OomKill, Membership, EventId),
    /// A service's listener came or went.
    Listener(Listener, ServiceId, EventId),
    /// A probe ended.
    Probe(ProbeReport),
    /// systemd's word on a service's unit, asked for or not.
    Unit(ServiceId, UnitState),
    /// systemd could not be asked, and why.
    UnitUnknown(ServiceId, String),
    /// A restart was carried out, or could not be.
    Restarted(ServiceId, Result<(), String>),
    /// What a service's processes use.
    Usage(ServiceId, ResourceUsage),
    /// A socket of a service had an error.
    SocketError(SocketError, ServiceId, EventId),
    /// Segments of a service had to be sent again.
    Retransmits(Retransmits, ServiceId, EventId),
    /// A listener of a service has no room for more connections.
    AcceptQueue(AcceptQueue, ServiceId, EventId),
    /// A service's main process was stopped by a signal.
    Suspended(Suspension, ServiceId, EventId),
    /// A service connects to another one.
    Connected {
        /// The one that connects.
        client: ServiceId,
        /// The one that it connects to.
        server: ServiceId,
    },
    /// What a service's processes did while they were looked at; None if there were none to look at.
    Examined(ServiceId, Option<Examination>),
    /// What was seen of a service's processes was written to this file, or could not be, and why.
    Snapshot(ServiceId, Result<String, String>),
    /// Who listens on one of the ports a service wants; None if nobody does.
    PortHolder(ServiceId, Option<PortHolder>),
    /// Who holds the connections to a service, most first, as this host's sockets tell.
    Holders(ServiceId, Vec<Holder>),
    /// How hard the host is pressed.
    Pressure(Pressure),
    /// Who connects to whom cannot be seen whole: a short connection is missed.
    ConnectionsUnseen,
}

impl Observation {
    /// The service that it concerns; None if it concerns all services.
    pub fn service(&self) -> Option<ServiceId> {
        match self {
            Self::Exit(_, member, _) | Self::OomKill(_, member, _) => Some(member.service),
            Self::Probe(report) => Some(report.service),
            Self::Running(id, _)
            | Self::Listening(id, _)
            | Self::Listener(_, id, _)
            | Self::Unit(id, _)
            | Self::UnitUnknown(id, _)
            | Self::Restarted(id, _)
            | Self::Usage(id, _)
            | Self::SocketError(_, id, _)
            | Self::Retransmits(_, id, _)
            | Self::AcceptQueue(_, id, _)
            | Self::Suspended(_, id, _)
            | Self::Examined(id, _)
            | Self::Snapshot(id, _)
            | Self::PortHolder(id, _)
            | Self::Holders(id, _)
            | Self::Connected { client: id, .. } => Some(*id),
            Self::Pressure(_) | Self::ConnectionsUnseen => None,
        }
    }
}
