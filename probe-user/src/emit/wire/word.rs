//! The closed vocabularies of the stream, each the wire's own copy of one the engine speaks.
//!
//! A word that the engine learns does not compile until it is here too, with its description.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fact;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident from $fact:ty { $($(#[$of:meta])* $variant:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$of])* $variant,)+ }

        impl From<$fact> for $name {
            fn from(word: $fact) -> Self {
                match word { $(<$fact>::$variant => Self::$variant,)+ }
            }
        }

        #[cfg(test)]
        impl $name {
            /// Each of the engine's words with the one it has in the stream.
            fn pairs() -> Vec<(&'static str, Self)> {
                vec![$((<$fact>::$variant.as_str(), Self::$variant),)+]
            }
        }
    };
}

words! {
    /// What saw an event.
    Provider from fact::Source {
        /// An eBPF program saw it happen.
        Ebpf,
        /// `/proc`, a cgroup file or a pidfd.
        Proc,
        /// The kernel said so over netlink: its process connector, or its list of sockets.
        Netlink,
        /// The kernel's log said so.
        Kmsg,
        /// systemd said so over D-Bus.
        Dbus,
        /// A probe found it.
        Probe,
        /// The supervisor of `exec` services: it started the process, and read its exit status.
        Supervisor,
        /// The engine decided it, or the daemon says it of itself.
        Engine,
    }
}

words! {
    /// What happened to a service.
    Verdict from fact::Verdict {
        /// It ended itself by a signal: a fault, an abort.
        Crashed,
        /// It exited, although it should stay up.
        Exited,
        /// The OOM killer ended its main process.
        OomKilled,
        /// Another process sent it a fatal signal.
        Killed,
        /// Somebody asked for it to stop.
        Stopped,
        /// Its process lives, its listener is gone.
        NotListening,
        /// Its probes fail, and nothing else says why.
        Unhealthy,
        /// It failed again after each restart its budget allows.
        CrashLoop,
        /// Another process of it died, and its main process lives.
        WorkerDied,
        /// Its process lives and does not answer.
        Hung,
        /// It answers, later than it should.
        Slow,
        /// It fails because the host, or its share of it, is overloaded: restarts are held.
        Overloaded,
        /// What it depends on has failed: `incident.cause` names it.
        DependencyDown,
        /// What it depends on is well again, and it is not.
        Unhealed,
        /// A database has no connections left, or nearly none.
        PoolExhausted,
        /// A store is full and refuses writes.
        MemoryFull,
        /// The network, or another host, does not answer.
        Network,
        /// It uses more than its limits allow.
        LimitExceeded,
    }
}

words! {
    /// How loud an incident or alert is.
    Severity from fact::Severity {
        /// For the record.
        Info,
        /// Somebody should look today.
        Warning,
        /// Somebody should get up.
        Critical,
    }
}

words! {
    /// A service as a whole.
    ServiceState from fact::ServiceState {
        /// It was (re)started, or hostprobe has not heard of it yet.
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
        /// Watching it is suspended.
        Paused,
    }
}

words! {
    /// The way a service is restarted.
    RestartMethod from fact::RestartMethod {
        /// systemd's `RestartUnit`.
        Systemd,
        /// The built-in supervisor.
        Supervisor,
        /// The configured command.
        Command,
        /// None: something else restarts it, or nobody does.
        None,
    }
}

words! {
    /// Whose memory ran out.
    OomScope from fact::OomScope {
        /// A memory cgroup reached its limit.
        Memcg,
        /// The host itself ran out.
        Global,
        /// Somebody asked for it with the SysRq key.
        Sysrq,
        /// The kernel did not tell.
        Unknown,
    }
}

words! {
    /// A socket's protocol.
    Protocol from fact::Protocol {
        /// TCP.
        Tcp,
        /// UDP.
        Udp,
        /// ICMP and ICMPv6.
        Icmp,
        /// Any other.
        Other,
    }
}

words! {
    /// Who asked for a connection, as seen by the service that the event is about.
    Direction from fact::Direction {
        /// It did: it is the client.
        Outbound,
        /// The other side did: it is the server.
        Inbound,
    }
}

words! {
    /// A probe's protocol.
    ProbeKind from fact::ProbeKind {
        /// An HTTP or HTTPS request.
        Http,
        /// A TCP connect.
        Tcp,
        /// Redis `PING` and `INFO`.
        Redis,
        /// PostgreSQL `SELECT 1`.
        Postgres,
        /// The greeting a MySQL or MariaDB server sends on connect.
        Mysql,
    }
}

words! {
    /// Why a probe failed.
    ProbeError from fact::ProbeFailure {
        /// ECONNREFUSED: nothing listens.
        Refused,
        /// The connection was made, and no answer came within the timeout.
        Timeout,
        /// No connection within the timeout.
        ConnectTimeout,
        /// The connection was reset or closed before the answer was whole.
        Reset,
        /// No way there.
        Unreachable,
        /// The name does not resolve.
        Dns,
        /// The TLS handshake failed.
        Tls,
        /// An HTTP status that was not expected.
        Status,
        /// A body without the expected text.
        Body,
        /// An answer that is not of the protocol, or an error answer of the server.
        Protocol,
        /// The server is up but turns the daemon away, mostly for its credentials.
        Auth,
        /// The server refuses for lack of free connections.
        TooManyConnections,
        /// More of the server's connections are in use than the probe allows.
        Connections,
        /// The server's memory is used above the probe's limit.
        Memory,
        /// The server's memory is full, or it cannot write to its disk, and it refuses to take more.
        MemoryFull,
        /// A replica has lost the server it copies.
        Replication,
        /// The probe could not be made, for a fault on the daemon's side.
        Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Serialize>(pairs: Vec<(&str, T)>) {
        for (word, value) in pairs {
            assert_eq!(serde_json::to_value(value).unwrap(), word);
        }
    }

    #[test]
    fn the_stream_uses_the_engines_words() {
        check(Provider::pairs());
        check(Verdict::pairs());
        assert_eq!(Verdict::pairs().len(), fact::Verdict::ALL.len());
        check(Severity::pairs());
        check(ServiceState::pairs());
        check(RestartMethod::pairs());
        check(OomScope::pairs());
        check(Protocol::pairs());
        check(Direction::pairs());
        check(ProbeKind::pairs());
        check(ProbeError::pairs());
    }
}
