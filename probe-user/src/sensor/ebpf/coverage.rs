//! The hooks, and whether they are attached.

use crate::fact::HostCheck;

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
    /// A task has not run for minutes.
    HungTask,
    /// A disk failed a request.
    BlockError,
    /// ext4 found an error.
    Ext4Error,
    /// XFS gave a file system up.
    XfsShutdown,
    /// The processor reports an error that it did not correct.
    MachineCheck,
    /// A memory controller reports an error that it did not correct.
    MemoryError,
}

impl Hook {
    /// Every hook. The ones that add to the records of others come first, so that these are complete from the start.
    pub const ALL: [Self; 15] = [
        Self::Signal,
        Self::Fork,
        Self::Cgroup,
        Self::Exec,
        Self::Oom,
        Self::Socket,
        Self::SocketReport,
        Self::Retransmit,
        Self::HungTask,
        Self::BlockError,
        Self::Ext4Error,
        Self::XfsShutdown,
        Self::MachineCheck,
        Self::MemoryError,
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
            Self::HungTask => "sched_process_hang",
            Self::BlockError => "block_rq_error",
            Self::Ext4Error => "ext4_error",
            Self::XfsShutdown => "xfs_force_shutdown",
            Self::MachineCheck => "mce_record",
            Self::MemoryError => "mc_event",
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
            Self::HungTask => "tasks that have not run for minutes",
            Self::BlockError => "failed reads and writes of disks",
            Self::Ext4Error => "damage of ext4 file systems",
            Self::XfsShutdown => "XFS file systems that gave up",
            Self::MachineCheck => "hardware errors that the processor reports",
            Self::MemoryError => "memory errors that a driver reports",
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
            Self::HungTask => "hung task",
            Self::BlockError => "block error",
            Self::Ext4Error => "ext4",
            Self::XfsShutdown => "xfs",
            Self::MachineCheck => "machine check",
            Self::MemoryError => "memory",
        }
    }

    /// The check of the host that it serves, if it serves one. A kernel without the part that may fail has no such
    /// tracepoint, and lacks nothing.
    pub const fn host_check(self) -> Option<HostCheck> {
        match self {
            Self::HungTask => Some(HostCheck::HungTask),
            Self::BlockError => Some(HostCheck::BlockErrors),
            Self::Ext4Error | Self::XfsShutdown => Some(HostCheck::FsErrors),
            Self::MachineCheck | Self::MemoryError => Some(HostCheck::MemoryErrors),
            Self::Exit
            | Self::Oom
            | Self::Signal
            | Self::Fork
            | Self::Cgroup
            | Self::Exec
            | Self::Socket
            | Self::SocketReport
            | Self::Retransmit => None,
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
    /// The kernel has no such tracepoint, as it lacks what the hook reports about.
    pub absent: bool,
    /// Details its records lack on this kernel, each with the reason. Empty on a kernel that has everything.
    pub lacking: Vec<String>,
}
