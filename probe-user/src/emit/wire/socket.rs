//! Sockets: errors, queues and dependencies.

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
    /// The side that opened the connection.
    pub direction: Direction,
    /// The number of errors: 1 for the first, then those of the same kind since the last event.
    pub count: u64,
    /// The time from the connection's start to the error, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<f64>,
    /// The service at the other side, if the daemon watches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_service: Option<String>,
}

/// TCP retransmits to one address since the last event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retransmit {
    /// The number of segments.
    pub count: u64,
    /// The address of the receiver.
    pub server: Endpoint,
    /// The service at that address, if the daemon watches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_service: Option<String>,
}

/// The accept queue of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptQueue {
    /// The waiting connections.
    pub waiting: u32,
    /// The most that may wait.
    pub backlog: u32,
}

/// The service that another one depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// Its name.
    pub service: String,
    /// The port of the connections.
    pub port: u16,
}
