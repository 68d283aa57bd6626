//! A prefilter in front of the maps of watched processes and cgroups.
//!
//! A map lookup costs as much as the rest of a program that finds nothing to do. So a program looks an id up only where the
//! prefilter says that the map may contain it. [`Prefilter`] says how the daemon and the programs maintain it.

use probe_abi::{PREFILTER_CGROUPS, PREFILTER_PROCESSES, Prefilter};

/// Written by the daemon. The section makes it a map of its own, and a program reads it at its address: the lookup of an
/// array's entry takes ten instructions.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.prefilter")]
static mut PREFILTER: Prefilter = Prefilter {
    epoch: 0,
    any_v2: 0,
    any_mem_v1: 0,
    pad: [0; 5],
    processes: [0; PREFILTER_PROCESSES / 8],
    cgroups_v2: [0; PREFILTER_CGROUPS / 8],
    cgroups_mem_v1: [0; PREFILTER_CGROUPS / 8],
};

/// By process id: the epoch in which the last process with this id was born into a lineage, 0 for none. Each is a whole
/// byte, because two CPUs that set two bits of one byte would lose one of them.
static mut BIRTH_EPOCHS: [u8; PREFILTER_PROCESSES] = [0; PREFILTER_PROCESSES];

/// A birth counts in its own epoch and the two that follow. The daemon needs one of them to see it. The other is needed
/// because no epoch is 0: from 255 to 1 the difference is two.
const EPOCHS: u8 = 2;

/// Whether a process may be watched, or belong to a lineage.
#[inline(always)]
pub fn may_contain_process(id: u32) -> bool {
    let index = id as usize & (PREFILTER_PROCESSES - 1);
    // SAFETY: the index is within both tables. The reads are volatile, because the daemon and other CPUs write the tables.
    unsafe {
        let birth = (&raw const BIRTH_EPOCHS).cast::<u8>().add(index).read_volatile();
        if birth != 0 && (&raw const PREFILTER.epoch).read_volatile().wrapping_sub(birth) <= EPOCHS {
            return true;
        }
        is_set((&raw const PREFILTER.processes).cast(), index)
    }
}

/// Notes a process that is born into a lineage.
#[inline(always)]
pub fn note_birth(id: u32) {
    let index = id as usize & (PREFILTER_PROCESSES - 1);
    // SAFETY: as above.
    unsafe {
        let epoch = (&raw const PREFILTER.epoch).read_volatile();
        (&raw mut BIRTH_EPOCHS).cast::<u8>().add(index).write_volatile(epoch);
    }
}

/// Whether a cgroup of the unified hierarchy may be watched.
#[inline(always)]
pub fn may_contain_cgroup_v2(id: u64) -> bool {
    // SAFETY: the index is within the table.
    unsafe { is_set((&raw const PREFILTER.cgroups_v2).cast(), id as usize & (PREFILTER_CGROUPS - 1)) }
}

/// Whether a cgroup of the v1 memory hierarchy may be watched.
#[inline(always)]
pub fn may_contain_cgroup_mem_v1(id: u64) -> bool {
    // SAFETY: as above.
    unsafe { is_set((&raw const PREFILTER.cgroups_mem_v1).cast(), id as usize & (PREFILTER_CGROUPS - 1)) }
}

/// Whether any cgroup of the unified hierarchy is watched.
#[inline(always)]
pub fn any_v2() -> bool {
    // SAFETY: a read of this program's memory.
    unsafe { (&raw const PREFILTER.any_v2).read_volatile() != 0 }
}

/// Whether any cgroup of the v1 memory hierarchy is watched. On most hosts there is no such hierarchy.
#[inline(always)]
pub fn any_mem_v1() -> bool {
    // SAFETY: as above.
    unsafe { (&raw const PREFILTER.any_mem_v1).read_volatile() != 0 }
}

/// # Safety
/// `index` must be that of a bit in `bits`.
#[inline(always)]
unsafe fn is_set(bits: *const u8, index: usize) -> bool {
    // SAFETY: the caller guarantees it.
    unsafe { bits.add(index >> 3).read_volatile() >> (index & 7) & 1 == 1 }
}
