//! What the sensors report, whether an eBPF program saw it or a fallback found it: owned values, with absence spelled
//! out. Each record says which source it is from.
//!
//! Times are nanoseconds of `CLOCK_BOOTTIME`; process ids are those of the daemon's pid namespace, 0 for a process that
//! is not in it; user ids are those of the initial namespace.

mod crash;

use std::net::{IpAddr, SocketAddr};

pub use crash::*;

use crate::fact::{Direction, ExitStatus, HostFault, HostSubject, OomScope, Protocol, Source, TcpState};

/// `signal(7)`
const SIGKILL: u32 = 9;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Exit(Exit),
    /// The OOM killer chose a victim.
    Oom(Oom),
    Exec(Exec),
    Listen(Listen),
    /// A socket failed.
    SocketError(SocketError),
    /// A watched process has connected to a place it had not connected to before.
    Connect(Connect),
    /// A watched listener has no room for one more connection.
    AcceptQueue(AcceptQueue),
    /// A watched process was sent a signal that stops it.
    Stop(ReceivedSignal),
    /// A watched process was sent a signal that ends it with a core dump; with its stack if it caused that itself.
    CoreSignal(ReceivedSignal, Option<Box<CrashStack>>),
    /// The memory of the stack that comes with the next such record of the process.
    CrashMemory(Box<CrashMemory>),
    /// Segments of a connection were sent again.
    Retransmits(Retransmits),
    Cgroup(CgroupMade),
    /// The kernel reports something about the host.
    Host(HostReport),
}

impl Record {
    /// When it happened, `CLOCK_BOOTTIME` nanoseconds.
    pub fn at_ns(&self) -> u64 {
        match self {
            Self::Exit(it) => it.at_ns,
            Self::Oom(it) => it.at_ns,
            Self::Exec(it) => it.at_ns,
            Self::Listen(it) => it.at_ns,
            Self::SocketError(it) => it.at_ns,
            Self::Connect(it) => it.at_ns,
            Self::AcceptQueue(it) => it.at_ns,
            Self::Stop(it) | Self::CoreSignal(it, _) => it.at_ns,
            Self::CrashMemory(it) => it.at_ns,
            Self::Retransmits(it) => it.at_ns,
            Self::Cgroup(it) => it.at_ns,
            Self::Host(it) => it.at_ns,
        }
    }
}

/// Something about the host that the kernel reports as it happens: an error, or that nothing is left of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostReport {
    pub at_ns: u64,
    pub source: Source,
    pub subject: HostSubject,
    /// Nothing is left of it.
    pub exhausted: bool,
    /// How often, since the last report.
    pub count: u64,
    /// A sentence for people.
    pub words: String,
    /// The device number of a file system, as `major:minor`.
    pub device: Option<String>,
    /// What a hook saw of it.
    pub fault: Option<HostFault>,
    /// What the eBPF programs count by: faults of the same kind have the same one.
    pub(in crate::sensor) kind: Option<[u64; FAULT_KIND_WORDS]>,
}

/// The size of `probe_abi::FaultKey`.
pub(in crate::sensor) const FAULT_KIND_WORDS: usize = size_of::<probe_abi::FaultKey>() / 8;

/// A process's cgroups; `None` in a hierarchy that is not there or not reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cgroups {
    /// Id in the unified hierarchy.
    pub v2: Option<u64>,
    /// Id in the v1 memory hierarchy; `None` where memory is on the unified one.
    pub memory_v1: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMade {
    pub at_ns: u64,
    /// Its id in its hierarchy.
    pub id: u64,
    /// Its hierarchy, by the number that `/proc/PID/cgroup` has for it; 0 is the unified one.
    pub hierarchy: u32,
    /// Its path from the root of its hierarchy; empty if that is longer than the 510 bytes that are kept.
    pub path: String,
}

/// A wait status, as `waitpid` would report it for the whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(
    /// Signal in bits 0–6, core dump in bit 7, exit code in bits 8–15; `None` where a fallback could not read it.
    pub Option<u32>,
);

impl Status {
    pub fn code(self) -> Option<u8> {
        let status = self.0.filter(|it| it & 0x7f == 0)?;
        Some((status >> 8 & 0xff) as u8)
    }

    /// The signal that ended it, if one did.
    pub fn signal(self) -> Option<u32> {
        Some(self.0? & 0x7f).filter(|it| *it != 0)
    }

    /// Whether SIGKILL ended it, as the OOM killer does.
    pub fn is_kill(self) -> bool {
        self.signal() == Some(SIGKILL)
    }

    /// Whether a core dump was written.
    pub fn core_dumped(self) -> bool {
        self.signal().is_some() && self.0.is_some_and(|it| it & 0x80 != 0)
    }

    /// The same as a fact has it.
    pub fn exit_status(self) -> ExitStatus {
        self.0.map_or(ExitStatus::Unknown, ExitStatus::from_wait_status)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// When; after a core dump was written, if there was one.
    pub at_ns: u64,
    pub source: Source,
    /// When the process started. With `pid` its identity. 0 from a fallback that learned only the pid. On kernels
    /// before 6.16 or so, two threads that end at once may both report the process's exit: drop the second of the same
    /// identity.
    pub start_ns: u64,
    pub pid: u32,
    /// Process id of the real parent; 0 where a fallback did not learn it.
    pub parent_pid: u32,
    /// Its process id in its own pid namespace.
    pub namespaced_pid: Option<u32>,
    /// The lineage that it was born into, or headed, if it or an ancestor was watched.
    pub lineage: Option<u32>,
    /// Real user id; not known if `comm` is empty.
    pub uid: u32,
    pub status: Status,
    /// The OOM killer chose it.
    pub oom_victim: bool,
    /// It, its lineage, its parent or one of its cgroups is watched.
    pub watched: bool,
    /// Its parent is the init of a pid namespace.
    pub child_of_init: bool,
    /// It was the init of a pid namespace, as the first process of a container is.
    pub namespace_init: bool,
    /// Largest resident set over its life, pages.
    pub max_rss_pages: u64,
    pub cgroups: Cgroups,
    /// Name of its first thread. A process may choose it, so never an identity. Empty where a fallback came too late.
    pub comm: String,
    /// For a death by signal, that signal. For an exit by code, the last request to end (TERM, INT, QUIT or HUP) it
    /// got in its life, be it long ago.
    pub signal: Option<Signal>,
}

/// A signal that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    pub at_ns: u64,
    pub number: u32,
    pub code: i32,
    /// The process in whose context it was sent: the sender, if that is a process. The kernel ends the processes of a
    /// pid namespace in the context of the namespace's init.
    pub context_pid: u32,
    /// `None` for the kernel itself.
    pub sender: Option<Sender>,
}

/// A process that sent a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    pub pid: u32,
    pub uid: u32,
    pub start_ns: u64,
    /// Its id in the unified cgroup hierarchy.
    pub cgroup_v2: Option<u64>,
    /// Name of the sending thread.
    pub comm: String,
}

/// The OOM killer chose a victim. Its [`Exit`] follows when it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oom {
    pub at_ns: u64,
    pub source: Source,
    /// When the victim started; 0 if `pid` is not known, and from the kernel's log if no fallback tracked it.
    pub start_ns: u64,
    /// Process id of the victim. `None` where an older kernel only names a thread that could not be found; then only
    /// `tid`, the trigger and the stack mean something.
    pub pid: Option<u32>,
    /// Thread id of the victim.
    pub tid: u32,
    /// Real user id of the victim.
    pub uid: u32,
    /// Its `oom_score_adj`, -1000 to 1000.
    pub score_adj: i32,
    /// Resident anonymous memory, pages. All four counts are the kernel's own estimates.
    pub anon_pages: u64,
    /// Resident file mappings, pages.
    pub file_pages: u64,
    /// Resident shared memory, pages.
    pub shmem_pages: u64,
    /// Swapped out, pages.
    pub swap_pages: u64,
    /// The lowest limit of its memory cgroup and those above it, pages; None if none is limited.
    pub limit_pages: Option<u64>,
    /// Where the victim ran.
    pub cgroups: Cgroups,
    /// The main process that the victim descends from, or itself, where a fallback tracked it.
    pub main_pid: Option<u32>,
    /// Name of the victim's first thread.
    pub comm: String,
    /// Process id of the one whose allocation called the OOM killer.
    pub trigger_pid: u32,
    /// Name of its thread.
    pub trigger_comm: String,
    /// What ran out of memory.
    pub scope: OomScope,
    /// Kernel stack, innermost frame first.
    pub stack: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    pub at_ns: u64,
    pub source: Source,
    pub pid: u32,
    /// What the hook read as the program began; `None` from a fallback, which learns of the pid alone.
    pub image: Option<Image>,
}

/// The program that a process executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// When the process started; executing does not change it.
    pub start_ns: u64,
    /// Process id of the real parent.
    pub parent_pid: u32,
    pub uid: u32,
    /// Inode of its pid namespace; None where the kernel does not show it.
    pub pid_namespace: Option<u32>,
    /// It, its lineage, its parent or one of its cgroups is watched.
    pub watched: bool,
    pub cgroups: Cgroups,
    /// Name of its thread.
    pub comm: String,
    /// Path as it was passed to `execve`: maybe relative, maybe a script. At most 255 bytes.
    pub filename: String,
    /// Command line. Empty if it could not be read.
    pub arguments: Vec<String>,
    /// The command line was longer than the 640 bytes kept.
    pub arguments_truncated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub at_ns: u64,
    pub source: Source,
    pub up: bool,
    pub address: IpAddr,
    /// Local port. 0 if a listener came whose port the kernel has yet to choose.
    pub port: u16,
    /// Process that listens, or that closed the listener.
    pub pid: u32,
    /// When that process started.
    pub start_ns: u64,
    /// Where that process runs.
    pub cgroups: Cgroups,
    /// Name of its thread.
    pub comm: String,
}

/// The process that asked for a connection, or that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub pid: u32,
    /// Process id of the real parent.
    pub parent_pid: u32,
    pub start_ns: u64,
}

/// A socket failed: for the first time in this way, or several times after that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketError {
    /// When; for several, when the last did.
    pub at_ns: u64,
    pub source: Source,
    /// `sk_err`.
    pub errno: u16,
    /// For TCP, the change of state.
    pub transition: Option<(TcpState, TcpState)>,
    pub protocol: Protocol,
    pub direction: Direction,
    /// Local address; IPv4 also where an IPv6 socket speaks it.
    pub local: SocketAddr,
    /// Remote address, likewise.
    pub remote: SocketAddr,
    /// Whose it is, where that is known.
    pub owner: Option<Owner>,
    /// Where the owner runs.
    pub cgroups: Cgroups,
    /// Inode of the network namespace.
    pub netns: Option<u32>,
    /// When the connection was asked for, where that is known.
    pub since_ns: Option<u64>,
    /// How many: 1 for the first.
    pub count: u64,
    /// What the eBPF programs count by: errors of the same kind have the same one.
    pub(in crate::sensor) kind: [u64; 4],
}

/// A watched process has connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    pub at_ns: u64,
    pub source: Source,
    pub owner: Owner,
    pub cgroups: Cgroups,
    pub remote: SocketAddr,
    /// Inode of the network namespace.
    pub netns: Option<u32>,
}

/// A watched listener has no room for one more connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptQueue {
    pub at_ns: u64,
    pub source: Source,
    pub owner: Owner,
    pub cgroups: Cgroups,
    pub local: SocketAddr,
    /// Connections that wait to be accepted.
    pub waiting: u32,
    /// The backlog, which the kernel lets grow to one more.
    pub backlog: u32,
    /// Inode of the network namespace.
    pub netns: Option<u32>,
}

/// Segments that a process had to send again to one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retransmits {
    /// When it was counted.
    pub at_ns: u64,
    pub source: Source,
    pub owner: Owner,
    pub cgroups: Cgroups,
    /// To where; IPv4 also where an IPv6 socket speaks it.
    pub remote: SocketAddr,
    /// How many since the last report.
    pub count: u64,
}

/// A signal to a watched process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedSignal {
    pub at_ns: u64,
    pub pid: u32,
    pub start_ns: u64,
    pub signal: Signal,
}

#[cfg(test)]
impl SocketError {
    /// A refused connection, asked for 50 µs before, for tests of what is made of it.
    pub fn example() -> Self {
        Self {
            at_ns: 9_000_050_000,
            source: Source::Ebpf,
            errno: 111,
            transition: Some((TcpState::SynSent, TcpState::Close)),
            protocol: Protocol::Tcp,
            direction: Direction::Outbound,
            local: SocketAddr::from(([127, 0, 0, 1], 50_000)),
            remote: SocketAddr::from(([127, 0, 0, 1], 80)),
            owner: None,
            cgroups: Cgroups::default(),
            netns: None,
            since_ns: Some(9_000_000_000),
            count: 1,
            kind: [0; 4],
        }
    }
}
