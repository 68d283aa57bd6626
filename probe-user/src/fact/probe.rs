//! What a probe can report.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ServerUsage, ServiceId};
use crate::clock::Timestamp;

/// One list of the protocols, so that [`ProbeKind::ALL`] leaves none out.
macro_rules! probe_kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal,)+) => {
        /// A probe's protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ProbeKind { $($(#[$doc])* $kind,)+ }

        impl ProbeKind {
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$kind),+];

            /// The word used for it in configuration and events.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $word,)+ }
            }
        }
    };
}

probe_kinds! {
    /// An HTTP or HTTPS request.
    Http = "http",
    /// A TCP connect, or an exchange of bytes.
    Tcp = "tcp",
    /// A connect to a Unix socket, or an exchange of bytes.
    Unix = "unix",
    /// A datagram and the answer to it.
    Udp = "udp",
    /// A program with the exit codes of a Nagios plugin.
    Exec = "exec",
    /// The silence of a job that is to report in.
    Heartbeat = "heartbeat",
    /// `Check` of `grpc.health.v1.Health`.
    Grpc = "grpc",
    /// A question to a DNS server.
    Dns = "dns",
    /// An ICMP echo request.
    Icmp = "icmp",
    /// Redis `PING` and `INFO`.
    Redis = "redis",
    /// PostgreSQL `SELECT 1`.
    Postgres = "postgres",
    /// MySQL or MariaDB `SELECT 1`, or without a user the greeting that the server sends on connect.
    Mysql = "mysql",
}

/// One list of the failures, so that [`ProbeFailure::ALL`] leaves none out.
macro_rules! probe_failures {
    ($($(#[$doc:meta])* $failure:ident = $word:literal,)+) => {
        /// Why a probe failed; `engine/rules/failure.rs` says whether a restart could help.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ProbeFailure { $($(#[$doc])* $failure,)+ }

        impl ProbeFailure {
            /// Every failure, in the order of the documentation.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$failure),+];

            /// The word used for it in events.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$failure => $word,)+ }
            }
        }
    };
}

probe_failures! {
    /// ECONNREFUSED: nothing listens.
    Refused = "refused",
    /// The connection was made, and no answer came within the timeout.
    Timeout = "timeout",
    /// No connection within the timeout: nothing came back, or the accept queue is full.
    ConnectTimeout = "connect_timeout",
    /// The connection was reset or closed before the answer was whole.
    Reset = "reset",
    /// ENETUNREACH, EHOSTUNREACH: no way there.
    Unreachable = "unreachable",
    /// The name does not resolve.
    Dns = "dns",
    /// The TLS handshake failed, or one side speaks TLS and the other plain text.
    Tls = "tls",
    /// An HTTP status that was not expected, by which the server reports a failure of its own.
    Status = "status",
    /// A body, or an answer in bytes, without the expected text.
    Body = "body",
    /// An answer that is not of the protocol, or an internal error of the server.
    Protocol = "protocol",
    /// The server is up but does not let the probe in, mostly for its credentials.
    Auth = "auth",
    /// The server is up and refuses what the probe asks for: the host name, the path, the method.
    Rejected = "rejected",
    /// The server is up and says that it takes no request now (HTTP 429, 503 with `Retry-After`).
    Busy = "busy",
    /// A proxy or pooler answers that the server behind it fails (HTTP 502, 504).
    Upstream = "upstream",
    /// The server refuses for lack of free connections.
    TooManyConnections = "too_many_connections",
    /// The limit of the probe's own account is reached, and other accounts may connect.
    AccountLimit = "account_limit",
    /// More of the server's connections are in use than the probe allows.
    Connections = "connections",
    /// The server answers, but uses more memory than the probe allows; a restart is no answer to that.
    Memory = "memory",
    /// The server's memory is full, or it cannot write to its disk, and it refuses to take more.
    MemoryFull = "memory_full",
    /// The server cannot use its own files: the disk fails, or they are missing or damaged.
    Storage = "storage",
    /// A replica has lost the server it copies.
    Replication = "replication",
    /// The server cannot save its data, and what it holds in memory only would be lost with it.
    Persistence = "persistence",
    /// A cluster, or a quorum of sentinels, lacks members that it needs.
    Cluster = "cluster",
    /// A primary where a replica is expected, or the other way round.
    Role = "role",
    /// A replica is further behind its primary than the probe allows.
    Lag = "lag",
    /// A transaction is open for longer than the probe allows.
    Transaction = "transaction",
    /// A session waits for a lock, or a client for a connection, for longer than the probe allows.
    Wait = "wait",
    /// The server comes to the end of its transaction ids, and takes no writes there.
    Wraparound = "wraparound",
    /// A check reports WARNING (exit code 1).
    PluginWarning = "plugin_warning",
    /// A check reports CRITICAL (exit code 2).
    PluginCritical = "plugin_critical",
    /// A check reports UNKNOWN (exit code 3), or ends in another way than a check does.
    PluginUnknown = "plugin_unknown",
    /// A check did not end within its time, and was killed.
    PluginTimeout = "plugin_timeout",
    /// A DNS server answers otherwise than expected, or has no such record.
    Answer = "answer",
    /// The host did not answer an echo request in time.
    NoEcho = "no_echo",
    /// A job has not reported in for too long.
    Silent = "silent",
    /// The probe cannot be made as it is configured, or not from this host: a URL or TLS that it cannot use, no IPv6.
    CannotAsk = "cannot_ask",
    /// The daemon lacks the descriptors, memory, threads or local ports for the probe.
    Local = "local",
}

impl ProbeFailure {
    /// Whether nothing came in time, with or without a connection.
    pub const fn is_timeout(self) -> bool {
        matches!(self, Self::Timeout | Self::ConnectTimeout)
    }
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeOutcome {
    /// The service answered correctly; the engine judges the time.
    Ok,
    /// The service reports that it is still starting, in its words (`LOADING`, SQLSTATE 57P03).
    Starting(String),
    /// It failed, with one sentence for a person: what was expected, what came.
    Failed(ProbeFailure, String),
}

impl ProbeOutcome {
    /// Whether no answer came in time.
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::Failed(failure, _) if failure.is_timeout())
    }
}

/// One run of one probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// The service it belongs to.
    pub service: ServiceId,
    /// Which of the service's probes, from 0.
    pub index: usize,
    /// When the answer came or the wait ended.
    pub at: Timestamp,
    pub kind: ProbeKind,
    /// What was probed, with secrets left out.
    pub target: String,
    pub duration: Duration,
    pub outcome: ProbeOutcome,
    /// How long the daemon itself was kept from running, if that left the service less than the timeout: its silence may be the
    /// daemon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hurried: Option<Duration>,
    /// What is wrong although the answer is right: a certificate that expires soon.
    #[serde(default)]
    pub remark: Option<String>,
    /// The server's report of its own resources, if the probe reads it.
    pub server: Option<ServerUsage>,
}

impl ProbeReport {
    /// When it began.
    pub fn begun(&self) -> Timestamp {
        let took = u64::try_from(self.duration.as_nanos()).unwrap_or(u64::MAX);
        Timestamp::from_nanos(self.at.as_nanos().saturating_sub(took))
    }
}

/// Why a probe's result is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeChange {
    /// It failed; how often in a row.
    Fail(u32),
    /// It succeeded after this number of failures.
    Recover(u32),
    /// It succeeded, above its limit.
    Slow,
}

/// Two attempts of a probe that wait for an answer, before either has timed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// As in [`ProbeReport`].
    pub service: ServiceId,
    pub index: usize,
    pub kind: ProbeKind,
    pub target: String,
    /// When the first of them began.
    pub since: Timestamp,
}
