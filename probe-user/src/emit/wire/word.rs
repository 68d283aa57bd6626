//! The closed vocabularies of the stream. Each is the wire's own copy of an enum of the facts.
//!
//! A new word of the engine does not compile until it is here too, with its description.

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
    /// The source of an event.
    Provider from fact::Source {
        /// An eBPF program.
        Ebpf,
        /// `/proc`, a cgroup file or a pidfd.
        Proc,
        /// Netlink: the kernel's process connector, or its list of sockets.
        Netlink,
        /// The kernel log.
        Kmsg,
        /// systemd, over D-Bus.
        Dbus,
        /// A probe.
        Probe,
        /// The supervisor of `exec` services: it started the process, and read its exit status.
        Supervisor,
        /// The engine's decision, or the daemon's own report.
        Engine,
    }
}

words! {
    /// Whether a database takes writes of its own or copies another one.
    DatabaseRole from fact::DatabaseRole {
        /// It takes writes.
        Primary,
        /// A standby, or a server that is read-only.
        Replica,
    }
}

words! {
    /// The fault of a drill.
    DrillFault from fact::DrillFault {
        /// SIGKILL to the main process.
        Kill,
        /// The processes are stopped.
        Hang,
        /// The OOM killer, within the service's own cgroup.
        Oom,
        /// The listeners refuse connections.
        Refuse,
    }
}

words! {
    /// A command of an operator.
    CommandKind from fact::CommandKind {
        /// Stop a service, until it is started.
        Stop,
        /// Start a service.
        Start,
        /// Restart a service.
        Restart,
        /// Hold restarts and alerts. Probes and incidents go on.
        Pause,
        /// End a pause.
        Resume,
        /// Hold the alerts of an incident.
        Ack,
        /// Read the configuration again.
        Reload,
        /// Cause a real fault, and measure detection and recovery.
        Drill,
    }
}

words! {
    /// The verdict on a service.
    Verdict from fact::Verdict {
        /// It ended itself by a signal: a fault, an abort.
        Crashed,
        /// It exited, although it should stay up.
        Exited,
        /// The OOM killer ended its main process.
        OomKilled,
        /// Another process sent it a fatal signal.
        Killed,
        /// An operator or a program stopped it on purpose.
        Stopped,
        /// systemd could not start its unit, or not in time.
        StartFailed,
        /// Its process lives, but its listener is closed.
        NotListening,
        /// Its probes fail without other evidence.
        Unhealthy,
        /// It failed again after each restart its budget allows.
        CrashLoop,
        /// It is kept from running on purpose: frozen, traced, or stopped from a terminal.
        Paused,
        /// A worker died, and its main process lives.
        WorkerDied,
        /// Its process lives and does not answer.
        Hung,
        /// It answers later than it should.
        Slow,
        /// It fails because the host, or its share of it, is overloaded: restarts are held.
        Overloaded,
        /// A dependency has failed; `incident.cause` names it.
        DependencyDown,
        /// Its dependency is healthy again, and it is not.
        Unhealed,
        /// A database has no connections left, or nearly none.
        PoolExhausted,
        /// A store is full and refuses writes.
        MemoryFull,
        /// The network, or another host, does not answer.
        Network,
        /// It uses more than its limits allow.
        LimitExceeded,
        /// hostprobe itself lacks descriptors, memory, threads or ports: the services keep their last known state.
        AgentImpaired,
        /// More restarts are due than the budget of all services allows; `incident.held` names those that wait.
        RestartStorm,
    }
}

words! {
    /// The severity of an incident or alert.
    Severity from fact::Severity {
        /// For the record.
        Info,
        /// A person should look today.
        Warning,
        /// A person should look at once.
        Critical,
    }
}

words! {
    /// A service as a whole.
    ServiceState from fact::ServiceState {
        /// It has just started, or hostprobe knows nothing of it yet.
        Starting,
        /// No fault of it is known.
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
        /// None: another supervisor restarts it, or none does.
        None,
    }
}

words! {
    /// The scope of the memory that ran out.
    OomScope from fact::OomScope {
        /// A memory cgroup reached its limit.
        Memcg,
        /// The host itself ran out.
        Global,
        /// A person requested it with the SysRq key.
        Sysrq,
        /// The kernel did not report it.
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
    /// The side that opened a connection, as seen from the event's service.
    Direction from fact::Direction {
        /// The service opened it and is the client.
        Outbound,
        /// The other side opened it; the service is the server.
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
        /// The greeting of a MySQL or MariaDB server.
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
        /// No route.
        Unreachable,
        /// The name does not resolve.
        Dns,
        /// The TLS handshake failed.
        Tls,
        /// An HTTP status that was not expected, by which the server reports a failure of its own.
        Status,
        /// A body without the expected text.
        Body,
        /// An answer that is not of the protocol, or an error answer of the server.
        Protocol,
        /// The server is up but does not let the probe in, mostly for its credentials.
        Auth,
        /// The server is up and refuses what the probe asks for: the host name, the path, the method.
        Rejected,
        /// The server is up and says that it takes no request now.
        Busy,
        /// A proxy or pooler answers that the server behind it fails.
        Upstream,
        /// The server refuses for lack of free connections.
        TooManyConnections,
        /// The limit of the probe's own account is reached, and other accounts may connect.
        AccountLimit,
        /// More of the server's connections are in use than the probe allows.
        Connections,
        /// The server uses more memory than the probe allows.
        Memory,
        /// The server's memory is full, or it cannot write to its disk, and it refuses writes.
        MemoryFull,
        /// A replica has lost the server it copies.
        Replication,
        /// The server cannot save its data.
        Persistence,
        /// A cluster, or a quorum of sentinels, lacks members that it needs.
        Cluster,
        /// A primary where a replica is expected, or the other way round.
        Role,
        /// A replica is further behind its primary than the probe allows.
        Lag,
        /// A transaction is open for longer than the probe allows.
        Transaction,
        /// A session waits for a lock, or a client for a connection, for longer than the probe allows.
        Wait,
        /// The server comes to the end of its transaction ids.
        Wraparound,
        /// The probe cannot be made as it is configured, or not from this host.
        CannotAsk,
        /// The probe could not be made, for a fault of the daemon or of its host.
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
    fn the_stream_uses_the_words_of_the_facts() {
        check(Provider::pairs());
        check(CommandKind::pairs());
        check(DatabaseRole::pairs());
        assert_eq!(DatabaseRole::pairs().len(), fact::DatabaseRole::ALL.len());
        check(DrillFault::pairs());
        assert_eq!(DrillFault::pairs().len(), fact::DrillFault::ALL.len());
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
        assert_eq!(ProbeError::pairs().len(), fact::ProbeFailure::ALL.len());
    }
}
