//! Sockets: errors, accept queues, dependencies and connection holders.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{ProcessKey, Sender, ServiceId, Source};
use crate::clock::Timestamp;

/// A state of a TCP connection, as in `include/net/tcp_states.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TcpState {
    /// Open for data.
    Established,
    /// Asked for, not answered yet.
    SynSent,
    /// Answered, not confirmed yet.
    SynRecv,
    /// Closed on this side.
    FinWait1,
    /// Closed on this side, which the other side knows.
    FinWait2,
    /// Waits for stray segments.
    TimeWait,
    Close,
    /// Closed on the other side.
    CloseWait,
    /// Closed on both sides, which the other side does not know yet.
    LastAck,
    /// Takes connections.
    Listen,
    /// Closed on both sides at once.
    Closing,
    /// A request for a connection.
    NewSynRecv,
}

impl TcpState {
    /// The state with this number in the kernel; None for a number there is none for.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynRecv,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            12 => Self::NewSynRecv,
            _ => return None,
        })
    }

    /// The word used for it in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::SynSent => "syn_sent",
            Self::SynRecv => "syn_recv",
            Self::FinWait1 => "fin_wait1",
            Self::FinWait2 => "fin_wait2",
            Self::TimeWait => "time_wait",
            Self::Close => "close",
            Self::CloseWait => "close_wait",
            Self::LastAck => "last_ack",
            Self::Listen => "listen",
            Self::Closing => "closing",
            Self::NewSynRecv => "new_syn_recv",
        }
    }
}

/// A socket's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
    /// ICMP and ICMPv6, as of ping sockets and raw ones.
    Icmp,
    Other,
}

impl Protocol {
    /// The word used for it in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Other => "other",
        }
    }
}

/// The side that opened a connection, as seen from the socket's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// The owner opened it and is the client.
    Outbound,
    /// The other side did: the owner is the server.
    Inbound,
}

impl Direction {
    /// The word used for it in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

/// What the other side of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Peer {
    /// A service that is watched, on this host or elsewhere.
    Service(ServiceId),
    /// Something else on this host.
    Local,
    /// Another host, or another network namespace.
    Remote,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketError {
    /// When it happened; for several, when the last did.
    pub at: Timestamp,
    /// The source of the record.
    pub source: Source,
    /// The error's number (`errno(3)`), such as 111 for ECONNREFUSED.
    pub errno: u16,
    /// For TCP, the change of state it came with.
    pub transition: Option<(TcpState, TcpState)>,
    pub protocol: Protocol,
    /// The side that opened the connection.
    pub direction: Direction,
    /// The socket's own address.
    pub local: SocketAddr,
    /// The address of the other side; of a socket that is not connected, unspecified.
    pub remote: SocketAddr,
    /// What the other side is.
    pub peer: Peer,
    /// The process that owns the socket, where that is known.
    pub process: Option<ProcessKey>,
    /// The number of errors: 1 for the first, then those of the same kind since the last event.
    pub count: u64,
    /// The time from the connection's start to the error, if known.
    pub age: Option<Duration>,
}

/// The usual name of an error number, such as `ECONNREFUSED`.
pub fn errno_name(errno: u16) -> String {
    let name = match i32::from(errno) {
        libc::ECONNREFUSED => "ECONNREFUSED",
        libc::ECONNRESET => "ECONNRESET",
        libc::ECONNABORTED => "ECONNABORTED",
        libc::ETIMEDOUT => "ETIMEDOUT",
        libc::EHOSTUNREACH => "EHOSTUNREACH",
        libc::EHOSTDOWN => "EHOSTDOWN",
        libc::ENETUNREACH => "ENETUNREACH",
        libc::ENETDOWN => "ENETDOWN",
        libc::EPIPE => "EPIPE",
        libc::EPROTO => "EPROTO",
        libc::ENOPROTOOPT => "ENOPROTOOPT",
        libc::EMSGSIZE => "EMSGSIZE",
        libc::EACCES => "EACCES",
        libc::EPERM => "EPERM",
        libc::EADDRINUSE => "EADDRINUSE",
        libc::EADDRNOTAVAIL => "EADDRNOTAVAIL",
        libc::ENOBUFS => "ENOBUFS",
        libc::ENOMEM => "ENOMEM",
        _ => return format!("errno {errno}"),
    };
    name.to_owned()
}

/// TCP retransmits to one address since the last event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retransmits {
    /// When they were counted.
    pub at: Timestamp,
    /// The source of the record.
    pub source: Source,
    /// The address they were for.
    pub remote: SocketAddr,
    /// The service or host at the address.
    pub peer: Peer,
    /// The number of segments.
    pub count: u64,
}

/// The connections of a listener that wait to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptQueue {
    /// When it was seen.
    pub at: Timestamp,
    /// The source of the record.
    pub source: Source,
    /// The listener's address.
    pub address: IpAddr,
    pub port: u16,
    /// Connections that wait.
    pub waiting: u32,
    /// The backlog: how many may; `u32::MAX` where that is not known, as for a listener in another network
    /// namespace than the daemon's.
    pub backlog: u32,
}

impl AcceptQueue {
    /// Whether there is no room for one more: the kernel takes one more than the backlog (`sk_acceptq_is_full`).
    pub const fn is_full(&self) -> bool {
        self.waiting > self.backlog
    }
}

/// A service's main process was stopped by a signal: it lives and does nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// When the signal was sent.
    pub at: Timestamp,
    pub process: ProcessKey,
    /// The signal: SIGSTOP, SIGTSTP, SIGTTIN or SIGTTOU.
    pub signal: u8,
    /// The sender, if known.
    pub sender: Option<Sender>,
}

/// The process that has a port another one wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortHolder {
    pub port: u16,
    /// Its pid in the initial namespace.
    pub pid: u32,
    /// Its name (`comm`).
    pub name: String,
    /// The systemd unit it runs in, where that could be read.
    pub unit: Option<String>,
    /// Its service, if the daemon watches it.
    pub service: Option<ServiceId>,
}

/// A holder of a database's connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The database's user.
    pub user: Option<String>,
    /// The client's name for itself.
    pub application: Option<String>,
    /// The address it connects from; None for a Unix socket.
    pub client: Option<IpAddr>,
    /// The client's process, if it is on this host: its pid and name.
    pub process: Option<(u32, String)>,
    /// The service of that process, if the daemon watches it.
    pub service: Option<ServiceId>,
    /// The number of connections.
    pub connections: u32,
    /// The ports at the client's end, at most 64 of them, where the database tells them: by them the process is
    /// found.
    #[serde(default)]
    pub ports: Vec<u16>,
}

impl Holder {
    /// It by all that is known of it, for people.
    pub fn words(&self) -> String {
        let application = self.application.as_ref().filter(|name| !name.is_empty());
        let mut parts = Vec::new();
        parts.extend(application.map(|name| format!("application {name}")));
        parts.extend(self.user.as_ref().map(|user| format!("user {user}")));
        parts.extend(self.client.map(|client| format!("from {client}")));
        if parts.is_empty() { "a client without a name".to_owned() } else { parts.join(", ") }
    }
}
