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
        /// A container engine, over its API.
        Container,
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
    /// What a service can run out of.
    Resource from fact::Resource {
        /// Memory that the kernel cannot take back.
        Memory,
        /// Open file descriptors of the process that is closest to its limit.
        Fds,
        /// Threads.
        Threads,
        /// Connections to a database.
        Connections,
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
        /// Something else restarts it again and again.
        RestartedByOther,
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
        /// A resource of it will reach its limit at its present slope.
        Exhausting,
        /// A listener of it has had no room for more connections for a while.
        BacklogFull,
        /// hostprobe itself lacks descriptors, memory, threads or ports: the services keep their last known state.
        AgentImpaired,
        /// More restarts are due than the budget of all services allows; `incident.held` names those that wait.
        RestartStorm,
        /// Other hosts of the fleet are not heard any more.
        HostSilent,
        /// A file system is full, or will soon be.
        HostDiskFull,
        /// A file system can take nearly no further files.
        HostInodes,
        /// A file system that was writable is not any more.
        HostReadOnly,
        /// Nearly no memory is left, or tasks wait for memory much of the time.
        HostMemory,
        /// Tasks wait for a CPU or a disk for more of the time than the configuration allows.
        HostPressure,
        /// The hypervisor gives CPU time to other machines.
        HostCpuSteal,
        /// Nearly no further process or thread can be started.
        HostPids,
        /// Nearly no further file can be opened.
        HostFiles,
        /// The table of tracked connections is nearly full, and packets of new ones are dropped.
        HostConntrack,
        /// Nearly no local port is left for connections to one address.
        HostPorts,
        /// The neighbour table is nearly full, and hosts of the local network cannot be reached.
        HostNeighbours,
        /// The clock is wrong, jumped, or is not kept right any more.
        HostClock,
        /// The host started again without being shut down.
        HostRebooted,
        /// The kernel reports a task that has not run for minutes.
        HostHungTask,
        /// The kernel reports that a disk fails to read or write.
        HostBlockErrors,
        /// The kernel reports that a file system is damaged.
        HostFsErrors,
        /// The hardware reports memory errors.
        HostMemoryErrors,
        /// CPUs are slowed down because they are too hot.
        HostThermal,
    }
}

words! {
    /// A check of the host.
    HostCheckName from fact::HostCheck {
        /// Used space of a file system, percent.
        Space,
        /// Used inodes of a file system, percent.
        Inodes,
        /// Whether a file system became read-only.
        ReadOnly,
        /// Memory that is not available, percent.
        Memory,
        /// Share of the time that all tasks waited for memory, percent.
        MemoryPressure,
        /// Share of the time that some task waited for a CPU, percent.
        CpuPressure,
        /// Share of the time that all tasks waited for a disk, percent.
        IoPressure,
        /// CPU time that the hypervisor gave to others, percent.
        CpuSteal,
        /// Processes and threads, percent of their limit.
        Pids,
        /// Open files, percent of their limit.
        Files,
        /// Tracked connections, percent of their limit.
        Conntrack,
        /// Local ports in use for connections to one address, percent of their range.
        Ports,
        /// Entries of the neighbour table, percent of their limit.
        Neighbours,
        /// Error of the clock by its own estimate, milliseconds.
        ClockOffset,
        /// Whether the clock was kept right, and is not any more.
        ClockSync,
        /// By how much the clock was set, milliseconds.
        ClockStep,
        /// Whether the host started again without being shut down.
        Reboot,
        /// Tasks that have not run for minutes.
        HungTask,
        /// Failed reads and writes of a disk.
        BlockErrors,
        /// Errors that a file system found in itself.
        FsErrors,
        /// Memory errors of the hardware.
        MemoryErrors,
        /// Share of the time that a CPU was slowed down by heat, percent.
        Thermal,
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
        /// The API of the container's engine.
        Container,
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
        /// A TCP connect, or an exchange of bytes.
        Tcp,
        /// A connect to a Unix socket, or an exchange of bytes.
        Unix,
        /// A datagram and the answer to it.
        Udp,
        /// A program with the exit codes of a Nagios plugin.
        Exec,
        /// The silence of a job that is to report in.
        Heartbeat,
        /// `Check` of `grpc.health.v1.Health`.
        Grpc,
        /// A question to a DNS server.
        Dns,
        /// An ICMP echo request.
        Icmp,
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
        /// The TLS handshake failed, or one side speaks TLS and the other plain text.
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
        /// The server cannot use its own files: the disk fails, or they are missing or damaged.
        Storage,
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
        /// A check reports WARNING (exit code 1).
        PluginWarning,
        /// A check reports CRITICAL (exit code 2).
        PluginCritical,
        /// A check reports UNKNOWN (exit code 3), or ends in another way than a check does.
        PluginUnknown,
        /// A check did not end within its time, and was killed.
        PluginTimeout,
        /// A DNS server answers otherwise than expected, or has no such record.
        Answer,
        /// The host did not answer an echo request in time.
        NoEcho,
        /// A job has not reported in for too long.
        Silent,
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
        check(Resource::pairs());
        assert_eq!(Resource::pairs().len(), fact::Resource::ALL.len());
        check(Verdict::pairs());
        assert_eq!(Verdict::pairs().len(), fact::Verdict::ALL.len());
        check(Severity::pairs());
        check(ServiceState::pairs());
        check(RestartMethod::pairs());
        check(HostCheckName::pairs());
        assert_eq!(HostCheckName::pairs().len(), fact::HostCheck::ALL.len());
        check(OomScope::pairs());
        check(Protocol::pairs());
        check(Direction::pairs());
        check(ProbeKind::pairs());
        check(ProbeError::pairs());
        assert_eq!(ProbeError::pairs().len(), fact::ProbeFailure::ALL.len());
    }
}
