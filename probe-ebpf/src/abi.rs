//! What the kernel side and the daemon share: record layouts, map keys and a handful of numbers.
//!
//! Every record starts with a [`Header`], is `#[repr(C)]` and spells out its padding. It is aligned to at most 8 bytes,
//! because a BPF ring buffer promises no more. The daemon reads records by field offset and never casts bytes, so no type
//! here has to be valid for every bit pattern.
//!
//! These conventions hold for every field:
//! - Times (`*_ns`) are nanoseconds of `CLOCK_BOOTTIME`. `start_ns` is the start of a thread group.
//! - Process ids are those of the daemon's pid namespace, 0 for a process outside it. `tgid` is a thread group id, `ppid`
//!   that of the real parent.
//! - User ids are real ones, in the initial user namespace.
//! - `cgroup_v2` is an id in the unified hierarchy, `cgroup_mem_v1` one in the v1 memory hierarchy: 0 where the memory
//!   controller is on the unified hierarchy.
//! - Addresses are in network byte order. An IPv4 address fills the first four bytes; the rest is 0.
//! - Ports are in host byte order. `family` is 2 (IPv4) or 10 (IPv6).
//! - `netns` is the inode of a network namespace, 0 where the kernel has none.
//! - `pad` is always 0.
#![no_std]

use core::mem::size_of;

// This file is the root of a crate, so its modules would otherwise lie beside the programs.
#[path = "abi/cgroup.rs"]
mod cgroup;
#[path = "abi/crash.rs"]
mod crash;
#[path = "abi/host.rs"]
mod host;
#[path = "abi/loss.rs"]
mod loss;
#[path = "abi/oom.rs"]
mod oom;
#[path = "abi/process.rs"]
mod process;
#[path = "abi/socket.rs"]
mod socket;
#[path = "abi/watch.rs"]
mod watch;

pub use cgroup::*;
pub use crash::*;
pub use host::*;
pub use loss::*;
pub use oom::*;
pub use process::*;
pub use socket::*;
pub use watch::*;

/// Length of a task's `comm`, including its closing NUL.
pub const COMM_LEN: usize = 16;

/// The offset of a field that the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

pub const KIND_EXIT: u32 = 1;
pub const KIND_OOM: u32 = 2;
pub const KIND_EXEC: u32 = 3;
pub const KIND_LISTEN: u32 = 4;
pub const KIND_SOCKET_ERROR: u32 = 5;
pub const KIND_CONNECT: u32 = 6;
pub const KIND_ACCEPT_QUEUE: u32 = 7;
pub const KIND_STOP: u32 = 8;
pub const KIND_CGROUP: u32 = 9;
pub const KIND_CORE_SIGNAL: u32 = 10;
pub const KIND_HUNG_TASK: u32 = 11;
pub const KIND_BLOCK_ERROR: u32 = 12;
pub const KIND_FILE_SYSTEM_ERROR: u32 = 13;
pub const KIND_MACHINE_CHECK: u32 = 14;
pub const KIND_MEMORY_ERROR: u32 = 15;
pub const KIND_CRASH: u32 = 16;
pub const KIND_CRASH_MEMORY: u32 = 17;

/// First field of every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    /// One of the `KIND_` constants.
    pub kind: u32,
    /// Bytes of the whole record.
    pub size: u32,
    /// When it happened (`bpf_ktime_get_boot_ns`).
    pub at_ns: u64,
}

// The object that is checked in and the daemon have to agree on every layout. The assertions here and in the modules
// make a change of one deliberate.
const _: () = assert!(size_of::<Header>() == 16);
