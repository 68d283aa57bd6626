//! Exits, execs, and the signals that end or stop a process.

use core::mem::{offset_of, size_of};

use crate::{COMM_LEN, Header};

/// Longest stored path of an executed file, in bytes.
pub const FILENAME_LEN: usize = 256;
/// Longest stored command line, in bytes.
pub const ARGV_LEN: usize = 640;

/// [`Exit::flags`]: the OOM killer chose this process.
pub const EXIT_OOM_VICTIM: u32 = 1;
/// [`Exit::flags`] and [`Exec::flags`]: the process, its lineage, its parent or one of its cgroups is watched.
pub const WATCHED: u32 = 2;
/// [`Exit::flags`]: the parent is pid 1 of its pid namespace.
pub const EXIT_CHILD_OF_INIT: u32 = 4;
/// [`Exit::flags`]: the process was pid 1 of a pid namespace of its own, as a container's first process is.
pub const EXIT_NAMESPACE_INIT: u32 = 8;
/// [`Exec::flags`]: the command line was longer than [`ARGV_LEN`].
pub const EXEC_ARGV_TRUNCATED: u32 = 16;

/// [`SentSignal::origin`]: a process sent the signal.
pub const ORIGIN_USER: u32 = 1;
/// [`SentSignal::origin`]: the kernel raised the signal: a fault, a timer, the OOM killer.
pub const ORIGIN_KERNEL: u32 = 2;

/// A signal that was sent to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SentSignal {
    pub at_ns: u64,
    pub sender_start_ns: u64,
    pub sender_cgroup_v2: u64,
    /// Signal number; 0 if the programs saw no such signal.
    pub signal: u32,
    /// `si_code` as the kernel filled it in.
    pub code: i32,
    /// Without meaning for [`ORIGIN_KERNEL`].
    pub sender_tgid: u32,
    pub sender_uid: u32,
    /// [`ORIGIN_USER`] or [`ORIGIN_KERNEL`].
    pub origin: u32,
    pub pad: u32,
    /// `comm` of the sending thread.
    pub sender_comm: [u8; COMM_LEN],
}

/// A thread group ended. Urgent ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Exit {
    /// [`KIND_EXIT`](crate::KIND_EXIT).
    pub header: Header,
    pub start_ns: u64,
    pub cgroup_v2: u64,
    pub cgroup_mem_v1: u64,
    /// Largest resident set over its life, in pages (`signal->maxrss`).
    pub max_rss_pages: u64,
    pub tgid: u32,
    pub ppid: u32,
    pub uid: u32,
    /// Wait status of the whole group: signal in bits 0–6, core dump in bit 7, exit code in bits 8–15.
    pub status: u32,
    /// `EXIT_` flags and [`WATCHED`].
    pub flags: u32,
    /// Process id in its own, innermost pid namespace.
    pub ns_pid: u32,
    /// The lineage that it was born into, or headed; 0 for none.
    pub lineage: u32,
    pub pad: u32,
    /// `comm` of the thread group leader.
    pub comm: [u8; COMM_LEN],
    /// The signal it died of. For an exit by code, the last request to end that it got.
    pub signal: SentSignal,
}

/// A process replaced its program. Bulk ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Exec {
    /// [`KIND_EXEC`](crate::KIND_EXEC).
    pub header: Header,
    /// An exec does not change it.
    pub start_ns: u64,
    pub cgroup_v2: u64,
    pub cgroup_mem_v1: u64,
    pub tgid: u32,
    pub ppid: u32,
    pub uid: u32,
    /// [`WATCHED`] and [`EXEC_ARGV_TRUNCATED`].
    pub flags: u32,
    /// Bytes used in `filename`, without the closing NUL.
    pub filename_len: u32,
    /// Bytes used in `argv`.
    pub argv_len: u32,
    /// Inode of its own, innermost pid namespace; 0 where the kernel does not show it.
    pub pid_namespace: u32,
    pub pad: u32,
    /// `comm` after the exec.
    pub comm: [u8; COMM_LEN],
    /// Path as it was passed to `execve`. Bytes past `filename_len` are stale memory.
    pub filename: [u8; FILENAME_LEN],
    /// Arguments, each closed by a NUL. Bytes past `argv_len` are stale memory.
    pub argv: [u8; ARGV_LEN],
}

/// A watched process was sent a signal that stops it, or another process sent it one that ends it with a core dump. Urgent
/// ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ReceivedSignal {
    /// [`KIND_STOP`](crate::KIND_STOP) or [`KIND_CORE_SIGNAL`](crate::KIND_CORE_SIGNAL).
    pub header: Header,
    pub start_ns: u64,
    pub tgid: u32,
    pub pad: u32,
    pub signal: SentSignal,
}

const _: () = {
    assert!(size_of::<SentSignal>() == 64 && offset_of!(SentSignal, sender_comm) == 48);
    assert!(size_of::<Exit>() == 160 && offset_of!(Exit, signal) == 96);
    assert!(size_of::<Exec>() == 984 && offset_of!(Exec, filename) == 88);
    assert!(size_of::<ReceivedSignal>() == 96 && offset_of!(ReceivedSignal, signal) == 32);
};
