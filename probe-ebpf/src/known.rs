//! Whether it is worth a look into the maps of what is watched.
//!
//! A look costs as much as a whole program that finds nothing to do. So it is only taken where somebody may be found. How
//! the daemon and this side share that knowledge says [`Known`].

use aya_ebpf::{macros::map, maps::Array};
use probe_abi::{KNOWN_CGROUPS, KNOWN_PROCESSES, Known};

/// What the daemon knows.
#[map]
static KNOWN: Array<Known> = Array::with_max_entries(1, 0);

/// The epochs in which the last with these ids were born into a family; 0 for none. A byte each, as two CPUs that write
/// two bits of one would undo each other's.
static mut BORN: [u8; KNOWN_PROCESSES] = [0; KNOWN_PROCESSES];

/// Births count in their own epoch and the two that follow: one for the daemon to see them in, and one as 255 is two less
/// than 1.
const EPOCHS: u8 = 2;

/// Whether a process may be a watched one, or of a watched one's family.
#[inline(always)]
pub fn process(id: u32) -> bool {
    let Some(known) = KNOWN.get_ptr(0) else { return true };
    let place = id as usize & (KNOWN_PROCESSES - 1);
    // SAFETY: the lookup returned a valid entry, and the places are within the tables. Volatile, as others write them.
    unsafe {
        let born = (&raw const BORN).cast::<u8>().add(place).read_volatile();
        if born != 0 && (*known).epoch.wrapping_sub(born) <= EPOCHS {
            return true;
        }
        is_set((&raw const (*known).processes).cast(), place)
    }
}

/// Notes that this process is about to be one of a family.
#[inline(always)]
pub fn born(id: u32) {
    let Some(known) = KNOWN.get_ptr(0) else { return };
    let place = id as usize & (KNOWN_PROCESSES - 1);
    // SAFETY: as above.
    unsafe { (&raw mut BORN).cast::<u8>().add(place).write_volatile((*known).epoch) };
}

/// Whether a cgroup of the unified hierarchy may be watched.
#[inline(always)]
pub fn cgroup_v2(id: u64) -> bool {
    let Some(known) = KNOWN.get_ptr(0) else { return true };
    // SAFETY: the lookup returned a valid entry, and the place is within the table.
    unsafe { is_set((&raw const (*known).cgroups_v2).cast(), id as usize & (KNOWN_CGROUPS - 1)) }
}

/// Whether a cgroup of the v1 memory hierarchy may be watched.
#[inline(always)]
pub fn cgroup_mem_v1(id: u64) -> bool {
    let Some(known) = KNOWN.get_ptr(0) else { return true };
    // SAFETY: as above.
    unsafe { is_set((&raw const (*known).cgroups_mem_v1).cast(), id as usize & (KNOWN_CGROUPS - 1)) }
}

/// Whether any cgroup of the unified hierarchy is watched.
#[inline(always)]
pub fn any_v2() -> bool {
    let Some(known) = KNOWN.get_ptr(0) else { return true };
    // SAFETY: as above.
    unsafe { (*known).any_v2 != 0 }
}

/// Whether any cgroup of the v1 memory hierarchy is watched. On most hosts there is no such hierarchy.
#[inline(always)]
pub fn any_mem_v1() -> bool {
    let Some(known) = KNOWN.get_ptr(0) else { return true };
    // SAFETY: as above.
    unsafe { (*known).any_mem_v1 != 0 }
}

/// # Safety
/// `place` must be one of the bits at `bits`.
#[inline(always)]
unsafe fn is_set(bits: *const u8, place: usize) -> bool {
    // SAFETY: the caller vouches for it.
    unsafe { bits.add(place >> 3).read_volatile() >> (place & 7) & 1 == 1 }
}
