//! The maps through which the daemon says what it watches.

use core::mem::{offset_of, size_of};

/// [`CgroupKey::hierarchy`] of the unified (v2) hierarchy.
pub const HIERARCHY_UNIFIED: u64 = 2;
/// [`CgroupKey::hierarchy`] of the v1 memory hierarchy.
pub const HIERARCHY_MEMORY_V1: u64 = 1;

/// Descendants of watched processes that `DESCENDANTS` holds at a time.
pub const DESCENDANTS_MAX: u32 = 16384;
/// Connections of watched processes whose owners `WATCHED_OWNERS` holds at a time.
pub const WATCHED_OWNERS_MAX: u32 = 16384;
/// Rows of `OWNERS`, which holds the owners of all other processes' connections: a power of two.
pub const OWNERS_ROWS: u32 = 4096;
/// Places in a row: as many as an address of eight bytes has free bits for.
pub const OWNERS_PLACES: usize = 8;
/// The unit of [`Descendant::start`] in nanoseconds: a tick of `/proc/PID/stat`. The daemon knows no finer start of the
/// processes that began before it.
pub const START_UNIT_NS: u64 = 10_000_000;

/// Bits for processes in [`Prefilter`], and birth epochs beside it: a power of two. The kernel gives ids in sequence, so
/// the last 32768 share no bit.
pub const PREFILTER_PROCESSES: usize = 32768;
/// Bits for cgroups in [`Prefilter`], for each hierarchy: a power of two.
pub const PREFILTER_CGROUPS: usize = 4096;

/// The one value of `PREFILTER`: which ids the maps of watched processes and cgroups may contain. Most processes of a
/// host are unwatched, and two bits tell so for a fraction of what a lookup costs.
///
/// A set bit means that the id, or another one with the same bit, is or was watched. Only the daemon writes the bits.
/// For a descendant born meanwhile, the kernel side notes the epoch of the birth in a table of its own; the note counts
/// until two epochs later. In every epoch the daemon therefore sets the bits of all ids in the maps, then begins the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Prefilter {
    /// The current epoch, never 0: 1 follows 255.
    pub epoch: u8,
    /// 1 if any cgroup of the unified hierarchy is watched, else 0.
    pub any_v2: u8,
    /// 1 if any cgroup of the v1 memory hierarchy is watched, else 0.
    pub any_mem_v1: u8,
    /// Always 0.
    pub pad: [u8; 5],
    /// Watched processes and their lineages: bit `id % PREFILTER_PROCESSES`, the lowest of a byte first.
    pub processes: [u8; PREFILTER_PROCESSES / 8],
    /// Watched cgroups of the unified hierarchy: bit `id % PREFILTER_CGROUPS`.
    pub cgroups_v2: [u8; PREFILTER_CGROUPS / 8],
    /// Watched cgroups of the v1 memory hierarchy, likewise.
    pub cgroups_mem_v1: [u8; PREFILTER_CGROUPS / 8],
}

/// Key of `WATCHED_CGROUP`. Each hierarchy numbers its cgroups by itself, so an id alone is ambiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct CgroupKey {
    /// [`HIERARCHY_UNIFIED`] or [`HIERARCHY_MEMORY_V1`].
    pub hierarchy: u64,
    /// Inode of the cgroup's directory.
    pub id: u64,
}

/// Value of `DESCENDANTS`: a descendant of a watched process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Descendant {
    /// Start of its thread group, in units of [`START_UNIT_NS`]. The kernel may give its id to another process later.
    pub start: u64,
    /// The number of its lineage, which the daemon chose; never 0.
    pub lineage: u32,
    pub pad: u32,
}

/// Key of `WATCHED_PORT`, and of the maps of listeners and of probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PortKey {
    pub netns: u32,
    /// Local port.
    pub port: u32,
}

const _: () = {
    assert!(size_of::<Descendant>() == 16 && offset_of!(Descendant, lineage) == 8);
    assert!(size_of::<PortKey>() == 8);
};
