//! What the kernel side and the daemon both have to know: record layouts, map keys, and a handful of numbers.
//!
//! Every record starts with a [`Header`], is `#[repr(C)]`, has its padding spelled out, and is aligned to at most
//! 8 bytes, which is all that a BPF ring buffer promises. The daemon reads records by field offset, never by casting
//! bytes, so nothing here needs to be valid for every bit pattern.
//!
//! Times are nanoseconds of `CLOCK_BOOTTIME`. Process ids are those of the daemon's pid namespace, 0 for a process that it
//! does not have; user ids are those of the initial user namespace.
#![no_std]

use core::mem::{offset_of, size_of};

/// Length of a task's `comm`, including its closing NUL.
pub const COMM_LEN: usize = 16;
/// Longest stored path of an executed file, in bytes.
pub const FILENAME_LEN: usize = 256;
/// Longest stored command line, in bytes.
pub const ARGV_LEN: usize = 640;
/// Longest stored path of a cgroup, in bytes.
pub const CGROUP_PATH_LEN: usize = 512;
/// Kernel stack frames kept with an OOM kill.
pub const STACK_FRAMES: usize = 12;
/// Memory cgroups whose limits an [`Oom`] carries: containers in pods in slices are four deep.
pub const LIMIT_LEVELS: usize = 6;
/// Descendants of watched processes that are known at a time.
pub const FAMILIES_MAX: u32 = 16384;
/// The unit of [`Kin::start`] in nanoseconds: a tick of `/proc/PID/stat`, as that is all that the daemon can know of
/// processes that were there before it.
pub const START_UNIT_NS: u64 = 10_000_000;
/// An offset the running kernel has no field for.
pub const ABSENT: u32 = u32::MAX;

/// [`Header::kind`] of an [`Exit`].
pub const KIND_EXIT: u32 = 1;
/// [`Header::kind`] of an [`Oom`].
pub const KIND_OOM: u32 = 2;
/// [`Header::kind`] of an [`Exec`].
pub const KIND_EXEC: u32 = 3;
/// [`Header::kind`] of a [`Listen`].
pub const KIND_LISTEN: u32 = 4;
/// [`Header::kind`] of a [`SocketError`].
pub const KIND_SOCKET_ERROR: u32 = 5;
/// [`Header::kind`] of a [`Connect`].
pub const KIND_CONNECT: u32 = 6;
/// [`Header::kind`] of an [`AcceptQueue`].
pub const KIND_ACCEPT_QUEUE: u32 = 7;
/// [`Header::kind`] of a [`Stop`].
pub const KIND_STOP: u32 = 8;
/// [`Header::kind`] of a [`CgroupMade`].
pub const KIND_CGROUP: u32 = 9;

/// [`Exit::flags`]: the OOM killer chose this process.
pub const EXIT_OOM_VICTIM: u32 = 1;
/// [`Exit::flags`] and [`Exec::flags`]: the process, its family, its parent or one of its cgroups is watched.
pub const WATCHED: u32 = 2;
/// [`Exit::flags`]: the parent is pid 1 of its pid namespace.
pub const EXIT_CHILD_OF_INIT: u32 = 4;
/// [`Exit::flags`]: the process was pid 1 of a pid namespace of its own, as a container's first process is.
pub const EXIT_NAMESPACE_INIT: u32 = 8;
/// [`Exec::flags`]: the command line was longer than [`ARGV_LEN`].
pub const EXEC_ARGV_TRUNCATED: u32 = 16;
/// [`Oom::flags`]: the victim's task was found, so more than its thread id is filled in.
pub const OOM_VICTIM_KNOWN: u32 = 32;

/// [`ErrorKey::direction`]: the owner asked for the connection.
pub const OUTBOUND: u8 = 1;
/// [`ErrorKey::direction`]: the other side did.
pub const INBOUND: u8 = 2;

/// [`SignalNote::origin`]: a process sent the signal.
pub const ORIGIN_USER: u32 = 1;
/// [`SignalNote::origin`]: the kernel raised it: a fault, a timer, the OOM killer.
pub const ORIGIN_KERNEL: u32 = 2;

/// [`CgroupKey::hierarchy`] of the unified (v2) hierarchy.
pub const HIERARCHY_UNIFIED: u64 = 2;
/// [`CgroupKey::hierarchy`] of the v1 memory hierarchy.
pub const HIERARCHY_MEMORY_V1: u64 = 1;

/// Why a record was not delivered; the index into the map `DROPS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DropClass {
    /// The urgent ring was full for the exit of a watched process.
    ExitWatched = 0,
    /// The urgent ring was half full for the exit of an unwatched process, or of one that only its family is watched for.
    ExitUnwatched = 1,
    /// A cgroup's budget of such exits for this second was spent.
    ExitThrottled = 2,
    /// The urgent ring was full for an OOM kill.
    Oom = 3,
    /// The bulk ring was full, or half full for an unwatched process, for an exec.
    Exec = 4,
    /// The urgent ring was full, or half full for an unwatched process, for a listener.
    Listen = 5,
    /// A cgroup's budget of unwatched listener changes for this second was spent.
    ListenThrottled = 6,
    /// The urgent ring was half full for the first error of its kind.
    SocketError = 7,
    /// A cgroup's budget of socket errors for this second was spent.
    SocketErrorThrottled = 8,
    /// The bulk ring was half full for a connection.
    Connect = 9,
    /// The urgent ring was half full for a full accept queue.
    AcceptQueue = 10,
    /// The urgent ring was full for the stop of a watched process.
    Stop = 11,
    /// The bulk ring was half full for a new cgroup.
    Cgroup = 12,
}

/// Number of [`DropClass`] classes.
pub const DROP_CLASSES: u32 = 13;

/// Index into `EXITS`: thread groups seen to end that a record was wanted for. Each end is counted once.
pub const EXITS_WANTED: u32 = 0;
/// Index into `EXITS`: the ends no record was wanted for.
pub const EXITS_FILTERED: u32 = 1;
/// Index into `EXITS`: the ends of processes that the daemon's pid namespace does not have.
pub const EXITS_ELSEWHERE: u32 = 2;
/// Number of counters in `EXITS`.
pub const EXITS_COUNTERS: u32 = 3;

/// Places for processes in [`Known`] and beside it: a power of two. Ids are given in a row, so the last so many do not share.
pub const KNOWN_PROCESSES: usize = 32768;
/// Places for cgroups in [`Known`], for each hierarchy: a power of two.
pub const KNOWN_CGROUPS: usize = 4096;

/// The one value of `KNOWN`: where in the maps of what is watched a look may find something. Most of what happens on a
/// host is nobody's concern, and two bits tell so for a fraction of what the maps take.
///
/// A bit that is set means no more than that somebody is, or was, there. Only the daemon writes it. Who is born into a
/// family in the meantime leaves the epoch of the birth in a table of the kernel side's own, where it counts until two
/// epochs later. So every epoch, the daemon sets the bits of all who are in the maps, then begins the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Known {
    /// The current epoch, never 0: 255 is followed by 1.
    pub epoch: u8,
    /// Whether any cgroup of the unified hierarchy is watched: 1 or 0.
    pub any_v2: u8,
    /// Whether any cgroup of the v1 memory hierarchy is watched: 1 or 0.
    pub any_mem_v1: u8,
    /// Always 0.
    pub pad: [u8; 5],
    /// Watched processes and their families: bit `id % KNOWN_PROCESSES`, the lowest of a byte first.
    pub processes: [u8; KNOWN_PROCESSES / 8],
    /// Watched cgroups of the unified hierarchy: bit `id % KNOWN_CGROUPS`.
    pub cgroups_v2: [u8; KNOWN_CGROUPS / 8],
    /// Watched cgroups of the v1 memory hierarchy, likewise.
    pub cgroups_mem_v1: [u8; KNOWN_CGROUPS / 8],
}

/// Key of `WATCHED_CGROUP`. Each hierarchy numbers its cgroups for itself, so an id alone is ambiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct CgroupKey {
    /// [`HIERARCHY_UNIFIED`] or [`HIERARCHY_MEMORY_V1`].
    pub hierarchy: u64,
    /// Inode of the cgroup's directory.
    pub id: u64,
}

/// Value of `FAMILIES`: a descendant of a watched process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Kin {
    /// Start of its thread group, in units of [`START_UNIT_NS`] of `CLOCK_BOOTTIME`: its id may be another one's later.
    pub start: u64,
    /// The number of its family, which the daemon chose; never 0.
    pub family: u32,
    /// Always 0.
    pub pad: u32,
}

/// Key of `WATCHED_PORT`, and of the listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PortKey {
    /// Inode of the network namespace; 0 where the kernel has none.
    pub netns: u32,
    /// Local port.
    pub port: u32,
}

/// Key of `RETRANSMITS`, and of the connections that were told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PeerKey {
    /// Remote address, network byte order; IPv4 in the first four bytes, the rest 0.
    pub addr: [u8; 16],
    /// Thread group id of the process that asked for the connection.
    pub tgid: u32,
    /// Remote port, host byte order.
    pub port: u16,
    /// Address family: 2 (IPv4) or 10 (IPv6).
    pub family: u16,
}

/// Value of `RETRANSMITS`, one for each CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Retransmits {
    /// Segments that this CPU sent again.
    pub count: u64,
    /// Thread group id of the owner's real parent.
    pub ppid: u64,
    /// Start of the owner's thread group, `CLOCK_BOOTTIME` nanoseconds; 0 on a CPU that counted nothing.
    pub start_ns: u64,
    /// Unified cgroup id of the owner.
    pub cgroup_v2: u64,
    /// Its id in the v1 memory hierarchy; 0 where memory is on the unified one.
    pub cgroup_mem_v1: u64,
}

/// What makes two errors the same. Key of `ERRORS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ErrorKey {
    /// Remote address, network byte order; IPv4 in the first four bytes, the rest 0.
    pub addr: [u8; 16],
    /// Thread group id of the owner; where no process is known, the lower half of its cgroup's id.
    pub owner: u32,
    /// The server's port, host byte order: [`OUTBOUND`] the remote one, [`INBOUND`] the local one. Clients choose a new
    /// one each time.
    pub port: u16,
    /// Address family: 2 (IPv4) or 10 (IPv6).
    pub family: u16,
    /// Error number (`sk_err`).
    pub errno: u16,
    /// IP protocol number.
    pub protocol: u16,
    /// TCP state before; 0 for other protocols.
    pub from: u8,
    /// TCP state after; 0 for other protocols.
    pub to: u8,
    /// [`OUTBOUND`] or [`INBOUND`].
    pub direction: u8,
    /// Always 0.
    pub pad: u8,
}

/// Value of `ERRORS`, one for each CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Repeats {
    /// Errors that this CPU saw after the first one.
    pub count: u64,
    /// When it saw the last of them, `CLOCK_BOOTTIME` nanoseconds.
    pub last_ns: u64,
}

/// First field of every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    /// One of the `KIND_` constants.
    pub kind: u32,
    /// Size of the whole record in bytes.
    pub size: u32,
    /// When it happened, `CLOCK_BOOTTIME` nanoseconds (`bpf_ktime_get_boot_ns`).
    pub at_ns: u64,
}

/// The last signal of one number sent to a process, for signals that end a process by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SignalNote {
    /// When it was sent, `CLOCK_BOOTTIME` nanoseconds.
    pub at_ns: u64,
    /// Start of the sender's thread group, `CLOCK_BOOTTIME` nanoseconds.
    pub sender_start_ns: u64,
    /// Unified cgroup id of the sender.
    pub sender_cgroup_v2: u64,
    /// Signal number; 0 if no such signal was seen.
    pub signal: u32,
    /// `si_code` as the kernel filled it in.
    pub code: i32,
    /// Thread group id of the sender. Without meaning for [`ORIGIN_KERNEL`].
    pub sender_tgid: u32,
    /// Real user id of the sender.
    pub sender_uid: u32,
    /// [`ORIGIN_USER`] or [`ORIGIN_KERNEL`].
    pub origin: u32,
    /// Always 0.
    pub pad: u32,
    /// `comm` of the sending thread.
    pub sender_comm: [u8; COMM_LEN],
}

/// A thread group ended. Urgent ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Exit {
    /// [`KIND_EXIT`].
    pub header: Header,
    /// Start of the thread group, `CLOCK_BOOTTIME` nanoseconds.
    pub start_ns: u64,
    /// Unified cgroup id.
    pub cgroup_v2: u64,
    /// Id in the v1 memory hierarchy; 0 where memory is on the unified one.
    pub cgroup_mem_v1: u64,
    /// Largest resident set over its life, in pages (`signal->maxrss`).
    pub max_rss_pages: u64,
    /// Thread group id.
    pub tgid: u32,
    /// Thread group id of the real parent.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Wait status of the whole group: signal in bits 0–6, core dump in bit 7, exit code in bits 8–15.
    pub status: u32,
    /// `EXIT_` flags and [`WATCHED`].
    pub flags: u32,
    /// Its process id in its own, innermost pid namespace.
    pub ns_pid: u32,
    /// The family it was born into, or headed; 0 for none.
    pub family: u32,
    /// Always 0.
    pub pad: u32,
    /// `comm` of the thread group leader.
    pub comm: [u8; COMM_LEN],
    /// The signal it died of, or for an orderly exit the last request to end that it got.
    pub signal: SignalNote,
}

/// The OOM killer chose a victim. Urgent ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Oom {
    /// [`KIND_OOM`].
    pub header: Header,
    /// Start of the victim's thread group, `CLOCK_BOOTTIME` nanoseconds.
    pub start_ns: u64,
    /// Unified cgroup id of the victim.
    pub cgroup_v2: u64,
    /// Victim's id in the v1 memory hierarchy; 0 where memory is on the unified one.
    pub cgroup_mem_v1: u64,
    /// Resident anonymous memory, pages.
    pub anon_pages: u64,
    /// Resident file mappings, pages.
    pub file_pages: u64,
    /// Resident shared memory, pages.
    pub shmem_pages: u64,
    /// Swapped out, pages.
    pub swap_pages: u64,
    /// Limits of the victim's memory cgroup and of those above it, innermost first, pages; 0 past the root.
    pub limit_pages: [u64; LIMIT_LEVELS],
    /// Kernel stack of the choice, innermost first; addresses, 0 past the end.
    pub stack: [u64; STACK_FRAMES],
    /// Thread group id of the victim; 0 without [`OOM_VICTIM_KNOWN`].
    pub tgid: u32,
    /// Thread id of the victim.
    pub tid: u32,
    /// Real user id of the victim.
    pub uid: u32,
    /// `oom_score_adj` of the victim, -1000 to 1000.
    pub score_adj: i32,
    /// Thread group id of the process whose allocation called the OOM killer.
    pub trigger_tgid: u32,
    /// [`OOM_VICTIM_KNOWN`].
    pub flags: u32,
    /// `comm` of the victim.
    pub comm: [u8; COMM_LEN],
    /// `comm` of the process whose allocation called the OOM killer.
    pub trigger_comm: [u8; COMM_LEN],
}

/// A process replaced its program. Bulk ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Exec {
    /// [`KIND_EXEC`].
    pub header: Header,
    /// Start of the thread group, `CLOCK_BOOTTIME` nanoseconds; an exec does not change it.
    pub start_ns: u64,
    /// Unified cgroup id.
    pub cgroup_v2: u64,
    /// Id in the v1 memory hierarchy; 0 where memory is on the unified one.
    pub cgroup_mem_v1: u64,
    /// Thread group id.
    pub tgid: u32,
    /// Thread group id of the real parent.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// [`WATCHED`], [`EXEC_ARGV_TRUNCATED`].
    pub flags: u32,
    /// Bytes used in `filename`, without the closing NUL.
    pub filename_len: u32,
    /// Bytes used in `argv`.
    pub argv_len: u32,
    /// `comm` after the exec.
    pub comm: [u8; COMM_LEN],
    /// Path as it was passed to `execve`. Bytes past `filename_len` are stale memory.
    pub filename: [u8; FILENAME_LEN],
    /// Arguments, each closed by a NUL. Bytes past `argv_len` are stale memory.
    pub argv: [u8; ARGV_LEN],
}

/// A TCP listener came or went. Urgent ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Listen {
    /// [`KIND_LISTEN`].
    pub header: Header,
    /// Start of the current thread group, `CLOCK_BOOTTIME` nanoseconds.
    pub start_ns: u64,
    /// Unified cgroup id of the current process.
    pub cgroup_v2: u64,
    /// Its id in the v1 memory hierarchy; 0 where memory is on the unified one.
    pub cgroup_mem_v1: u64,
    /// Thread group id of the process that listens, or closes its listener.
    pub tgid: u32,
    /// 1: listening now; 0: no longer.
    pub up: u32,
    /// Address family: 2 (IPv4) or 10 (IPv6).
    pub family: u16,
    /// Local port, host byte order.
    pub port: u16,
    /// Always 0.
    pub pad: u32,
    /// Local address, network byte order; IPv4 in the first four bytes, the rest 0.
    pub addr: [u8; 16],
    /// `comm` of the current thread.
    pub comm: [u8; COMM_LEN],
}

/// A socket failed, for the first time in this way. Urgent ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SocketError {
    /// [`KIND_SOCKET_ERROR`].
    pub header: Header,
    /// What makes others the same.
    pub key: ErrorKey,
    /// Start of the owner's thread group, `CLOCK_BOOTTIME` nanoseconds; 0 without an owner.
    pub start_ns: u64,
    /// Unified cgroup id of the owner.
    pub cgroup_v2: u64,
    /// Its id in the v1 memory hierarchy; 0 where memory is on the unified one.
    pub cgroup_mem_v1: u64,
    /// When the connection was asked for, `CLOCK_BOOTTIME` nanoseconds; 0 if not known.
    pub since_ns: u64,
    /// Local address, like [`ErrorKey::addr`].
    pub local_addr: [u8; 16],
    /// Thread group id of the owner; 0 if not known.
    pub tgid: u32,
    /// Inode of the socket's network namespace; 0 where the kernel has none.
    pub netns: u32,
    /// Local port, host byte order.
    pub local_port: u16,
    /// Remote port, host byte order.
    pub remote_port: u16,
    /// Thread group id of the owner's real parent.
    pub ppid: u32,
}

/// A watched process has connected, for the first time to this place. Bulk ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Connect {
    /// [`KIND_CONNECT`].
    pub header: Header,
    /// Who, and to where.
    pub peer: PeerKey,
    /// Start of its thread group, `CLOCK_BOOTTIME` nanoseconds.
    pub start_ns: u64,
    /// Unified cgroup id.
    pub cgroup_v2: u64,
    /// Id in the v1 memory hierarchy; 0 where memory is on the unified one.
    pub cgroup_mem_v1: u64,
    /// Inode of the socket's network namespace; 0 where the kernel has none.
    pub netns: u32,
    /// Thread group id of the owner's real parent.
    pub ppid: u32,
}

/// A watched listener has no room for one more connection. Urgent ring, once a second at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct AcceptQueue {
    /// [`KIND_ACCEPT_QUEUE`].
    pub header: Header,
    /// Start of the thread group that listens, `CLOCK_BOOTTIME` nanoseconds.
    pub start_ns: u64,
    /// Unified cgroup id.
    pub cgroup_v2: u64,
    /// Id in the v1 memory hierarchy; 0 where memory is on the unified one.
    pub cgroup_mem_v1: u64,
    /// Local address, network byte order; IPv4 in the first four bytes, the rest 0.
    pub addr: [u8; 16],
    /// Thread group id of the process that listens.
    pub tgid: u32,
    /// Connections that wait to be accepted.
    pub waiting: u32,
    /// The backlog: the kernel lets one more than this wait.
    pub backlog: u32,
    /// Inode of the socket's network namespace; 0 where the kernel has none.
    pub netns: u32,
    /// Address family: 2 (IPv4) or 10 (IPv6).
    pub family: u16,
    /// Local port, host byte order.
    pub port: u16,
    /// Thread group id of the owner's real parent.
    pub ppid: u32,
}

/// A watched process was sent a signal that stops it. Urgent ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Stop {
    /// [`KIND_STOP`].
    pub header: Header,
    /// Start of the thread group, `CLOCK_BOOTTIME` nanoseconds.
    pub start_ns: u64,
    /// Thread group id.
    pub tgid: u32,
    /// Always 0.
    pub pad: u32,
    /// The signal.
    pub signal: SignalNote,
}

/// A cgroup was made. Bulk ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct CgroupMade {
    /// [`KIND_CGROUP`].
    pub header: Header,
    /// Its id in its hierarchy.
    pub id: u64,
    /// Its hierarchy, by the number that `/proc/PID/cgroup` has for it: 0 is the unified one.
    pub hierarchy: u32,
    /// Bytes used in `path`, without the closing NUL.
    pub path_len: u32,
    /// Its path from the root of its hierarchy. Bytes past `path_len` are stale memory.
    pub path: [u8; CGROUP_PATH_LEN],
}

// A layout change must be a deliberate one: the object that is checked in and the daemon have to agree.
const _: () = {
    assert!(size_of::<Header>() == 16);
    assert!(size_of::<SignalNote>() == 64 && offset_of!(SignalNote, sender_comm) == 48);
    assert!(size_of::<Exit>() == 160 && offset_of!(Exit, signal) == 96);
    assert!(size_of::<Kin>() == 16 && offset_of!(Kin, family) == 8);
    assert!(size_of::<Oom>() == 272 && offset_of!(Oom, stack) == 120);
    assert!(size_of::<Exec>() == 976 && offset_of!(Exec, filename) == 80);
    assert!(size_of::<Listen>() == 88 && offset_of!(Listen, addr) == 56);
    assert!(size_of::<PeerKey>() == 24 && size_of::<PortKey>() == 8);
    assert!(size_of::<ErrorKey>() == 32 && offset_of!(ErrorKey, errno) == 24);
    assert!(size_of::<Repeats>() == 16 && size_of::<Retransmits>() == 40);
    assert!(size_of::<SocketError>() == 112 && offset_of!(SocketError, local_addr) == 80);
    assert!(size_of::<Connect>() == 72 && offset_of!(Connect, start_ns) == 40);
    assert!(size_of::<AcceptQueue>() == 80 && offset_of!(AcceptQueue, addr) == 40);
    assert!(size_of::<CgroupMade>() == 544 && offset_of!(CgroupMade, path) == 32);
    assert!(size_of::<Stop>() == 96 && offset_of!(Stop, signal) == 32);
};
