//! Sockets: their errors, their queues, and who connects to whom.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Direction, Protocol};

/// One side of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Its address; `0.0.0.0` or `::` for a listener on all addresses.
    pub ip: String,
    /// Its port.
    pub port: u16,
}

/// An error of a socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    /// Its name, such as `ECONNREFUSED`.
    pub error: String,
    /// Its number.
    pub errno: u16,
    /// For TCP, the change of state it came with, such as `syn_sent>close`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition: Option<String>,
    /// The protocol.
    pub protocol: Protocol,
    /// Who asked for the connection.
    pub direction: Direction,
    /// How many there were: 1 for the first, then those of the same kind since the last event.
    pub count: u64,
    /// How long after the connection was asked for it came, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<f64>,
    /// The service at the other side, if it is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_service: Option<String>,
}

/// Segments that had to be sent again to one address, since the last look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retransmit {
    /// How many.
    pub count: u64,
    /// The address they were for.
    pub server: Endpoint,
    /// The service there, if it is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_service: Option<String>,
}

/// The connections of a listener that wait to be accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptQueue {
    /// Connections that wait.
    pub waiting: u32,
    /// How many may.
    pub backlog: u32,
}

/// The service that another one depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// Its name.
    pub service: String,
    /// The port it is connected to at.
    pub port: u16,
}
