//! The hooks, and whether they are attached.

/// A tracepoint of the kernel, and the eBPF program there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// A process ended.
    Exit,
    /// The OOM killer chose a victim.
    Oom,
    /// A deadly signal was sent, which adds the sender to exits; or one that stops a process.
    Signal,
    /// A process was forked, and belongs to its parent's lineage from then on.
    Fork,
    /// A cgroup was made, whose path is known by its id from then on.
    Cgroup,
    /// A process executed a program.
    Exec,
    /// A TCP socket changed its state: listeners, connections, and how they fail.
    Socket,
    /// A socket that is not TCP's failed.
    SocketReport,
    /// A TCP segment was sent again.
    Retransmit,
}

impl Hook {
    /// Every hook. The ones that add to the records of others come first, so that these are complete from the start.
    pub const ALL: [Self; 9] = [
        Self::Signal,
        Self::Fork,
        Self::Cgroup,
        Self::Exec,
        Self::Oom,
        Self::Socket,
        Self::SocketReport,
        Self::Retransmit,
        Self::Exit,
    ];

    /// The kernel's name for the place, which is also the name of our program there.
    pub const fn tracepoint(self) -> &'static str {
        match self {
            Self::Exit => "sched_process_exit",
            Self::Oom => "mark_victim",
            Self::Signal => "signal_generate",
            Self::Fork => "sched_process_fork",
            Self::Cgroup => "cgroup_mkdir",
            Self::Exec => "sched_process_exec",
            Self::Socket => "inet_sock_set_state",
            Self::SocketReport => "inet_sk_error_report",
            Self::Retransmit => "tcp_retransmit_skb",
        }
    }

    /// The hook at this place of the kernel.
    pub fn at(tracepoint: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.tracepoint() == tracepoint)
    }

    /// What it reports, for people.
    pub const fn sees(self) -> &'static str {
        match self {
            Self::Exit => "exits of processes, and how they ended",
            Self::Oom => "OOM kills",
            Self::Signal => "senders of deadly signals, and processes that are stopped",
            Self::Fork => "the service of a process whose parents are gone",
            Self::Cgroup => "the paths of cgroups that are gone",
            Self::Exec => "programs that are executed",
            Self::Socket => "listeners, connections and their errors",
            Self::SocketReport => "errors of UDP sockets",
            Self::Retransmit => "segments sent again",
        }
    }

    /// Short name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Oom => "oom",
            Self::Signal => "signal",
            Self::Fork => "fork",
            Self::Cgroup => "cgroup",
            Self::Exec => "exec",
            Self::Socket => "socket",
            Self::SocketReport => "socket report",
            Self::Retransmit => "retransmit",
        }
    }
}

/// One hook, attached or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub hook: Hook,
    /// Whether its program is loaded and attached.
    pub attached: bool,
    /// Why not, if not.
    pub reason: Option<String>,
    /// Details its records lack on this kernel, each with the reason. Empty on a kernel that has everything.
    pub lacking: Vec<String>,
}
