use core::mem::{offset_of, size_of};

use crate::Header;

/// Longest stored path of a cgroup, in bytes.
pub const CGROUP_PATH_LEN: usize = 512;

/// A cgroup was made. Bulk ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct CgroupMade {
    /// [`KIND_CGROUP`](crate::KIND_CGROUP).
    pub header: Header,
    /// Its id in its own hierarchy.
    pub id: u64,
    /// Its hierarchy, by the number in `/proc/PID/cgroup`: 0 is the unified one.
    pub hierarchy: u32,
    /// Bytes used in `path`, without the closing NUL.
    pub path_len: u32,
    /// Its path from the root of its hierarchy. Bytes past `path_len` are stale memory.
    pub path: [u8; CGROUP_PATH_LEN],
}

const _: () = assert!(size_of::<CgroupMade>() == 544 && offset_of!(CgroupMade, path) == 32);
