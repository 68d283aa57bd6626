use core::mem::{offset_of, size_of};

use crate::{COMM_LEN, Header};

/// Kernel stack frames kept with an OOM kill.
pub const STACK_FRAMES: usize = 12;
/// Memory cgroups whose limits an [`Oom`] carries: containers in pods in slices are four deep.
pub const LIMIT_LEVELS: usize = 6;

/// [`Oom::flags`]: the program found the victim's task, so the record holds more than its thread id.
pub const OOM_VICTIM_KNOWN: u32 = 32;

/// The OOM killer chose a victim. Urgent ring.
///
/// `start_ns`, the cgroups, `uid` and `comm` are the victim's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Oom {
    /// [`KIND_OOM`](crate::KIND_OOM).
    pub header: Header,
    pub start_ns: u64,
    pub cgroup_v2: u64,
    pub cgroup_mem_v1: u64,
    /// Resident anonymous memory, in pages like all five that follow.
    pub anon_pages: u64,
    pub file_pages: u64,
    pub shmem_pages: u64,
    pub swap_pages: u64,
    /// Limits of the victim's memory cgroup and of its ancestors, innermost first; 0 past the root.
    pub limit_pages: [u64; LIMIT_LEVELS],
    /// Kernel stack of the choice: addresses, innermost first, 0 past the end.
    pub stack: [u64; STACK_FRAMES],
    /// 0 without [`OOM_VICTIM_KNOWN`].
    pub tgid: u32,
    pub tid: u32,
    pub uid: u32,
    /// `oom_score_adj`, -1000 to 1000.
    pub score_adj: i32,
    /// The process whose allocation called the OOM killer.
    pub trigger_tgid: u32,
    /// 0 or [`OOM_VICTIM_KNOWN`].
    pub flags: u32,
    pub comm: [u8; COMM_LEN],
    pub trigger_comm: [u8; COMM_LEN],
}

const _: () = assert!(size_of::<Oom>() == 272 && offset_of!(Oom, stack) == 120);
