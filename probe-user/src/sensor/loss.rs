//! What a sensor could not report: how many records of which class, and where they were lost.

use super::ebpf::coverage::Hook;

/// Records of one class that never arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    pub class: LossClass,
    pub place: LossPlace,
    /// How many since the last call, or, where the kernel does not say how many, how often.
    pub count: u64,
}

/// What the lost records were about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossClass {
    /// Exits of watched processes.
    ExitWatched,
    /// Exits of unwatched processes that the ring had no room for.
    ExitUnwatched,
    /// Exits beyond the limit a second: of unwatched processes, and of a service's other processes than its main one.
    ExitThrottled,
    /// Exits that the process connector dropped.
    ExitConnector,
    /// Exits of processes that were gone before they could be identified.
    ExitUnidentified,
    Oom,
    Exec,
    Listen,
    ListenThrottled,
    SocketError,
    SocketErrorThrottled,
    Connect,
    AcceptQueue,
    /// Signals to watched processes that stop them, or end them with a core dump.
    Signal,
    Cgroup,
    /// Owners of connections of watched processes, beyond the room for them: an error of such a connection may be missed.
    SocketOwner,
    /// Owners of connections of all other processes, beyond the room for them: if one of these processes is watched later,
    /// the errors of such a connection are missed.
    SocketOwnerUnwatched,
    /// Descendants of watched processes, beyond the room for them: they are known by parent and cgroup only.
    Descendant,
    /// Faults of the host, of a kind that was not yet reported. The kernel's log may have them.
    HostFault,
    HostFaultThrottled,
    /// Memory of the stacks of crashes: fewer of their calls are named.
    CrashMemory,
    /// Runs of a program that the kernel left out.
    Missed,
    /// Records that arrived but made no sense.
    Undecodable,
    /// Lines of the kernel's log.
    Kmsg,
}

impl LossClass {
    /// The label in metrics and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExitWatched => "exit_watched",
            Self::ExitUnwatched => "exit_unwatched",
            Self::ExitThrottled => "exit_throttled",
            Self::ExitConnector => "exit_connector",
            Self::ExitUnidentified => "exit_unidentified",
            Self::Oom => "oom",
            Self::Exec => "exec",
            Self::Listen => "listen",
            Self::ListenThrottled => "listen_throttled",
            Self::SocketError => "socket_error",
            Self::SocketErrorThrottled => "socket_error_throttled",
            Self::Connect => "connect",
            Self::AcceptQueue => "accept_queue",
            Self::Signal => "signal",
            Self::Cgroup => "cgroup",
            Self::SocketOwner => "socket_owner",
            Self::SocketOwnerUnwatched => "socket_owner_unwatched",
            Self::Descendant => "descendant",
            Self::HostFault => "host_fault",
            Self::HostFaultThrottled => "host_fault_throttled",
            Self::CrashMemory => "crash_memory",
            Self::Missed => "missed",
            Self::Undecodable => "undecodable",
            Self::Kmsg => "kmsg",
        }
    }
}

/// Where records were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossPlace {
    /// The ring whose records wake the daemon.
    UrgentRing,
    /// The ring whose records the daemon collects every second.
    BulkRing,
    Hook(Hook),
    /// A map of the eBPF programs, by its name.
    Map(&'static str),
    ProcessConnector,
    KernelLog,
}

impl LossPlace {
    /// The word in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UrgentRing => "urgent ring",
            Self::BulkRing => "bulk ring",
            Self::Hook(hook) => hook.tracepoint(),
            Self::Map(name) => name,
            Self::ProcessConnector => "process connector",
            Self::KernelLog => "kernel log",
        }
    }
}

impl Loss {
    /// Whether the exit of a service's main process may have been lost.
    pub fn may_hide_main_exit(&self) -> bool {
        match self.class {
            LossClass::ExitWatched | LossClass::ExitConnector => true,
            LossClass::Missed => self.place == LossPlace::Hook(Hook::Exit),
            LossClass::ExitUnwatched
            | LossClass::ExitThrottled
            | LossClass::ExitUnidentified
            | LossClass::Oom
            | LossClass::Exec
            | LossClass::Listen
            | LossClass::ListenThrottled
            | LossClass::SocketError
            | LossClass::SocketErrorThrottled
            | LossClass::Connect
            | LossClass::AcceptQueue
            | LossClass::Signal
            | LossClass::Cgroup
            | LossClass::SocketOwner
            | LossClass::SocketOwnerUnwatched
            | LossClass::Descendant
            | LossClass::HostFault
            | LossClass::HostFaultThrottled
            | LossClass::CrashMemory
            | LossClass::Undecodable
            | LossClass::Kmsg => false,
        }
    }
}
