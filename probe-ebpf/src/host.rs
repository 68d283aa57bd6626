//! Faults of the host. The first fault of a kind is a record; the programs only count the repeats.
//!
//! A failing disk fails thousands of requests a second, and a frozen file system hangs each process that writes to it. So
//! the programs keep the kinds that they have reported in a map, and a budget bounds how many new kinds a second there
//! may be. The tracepoints fire at faults only, so that a healthy host pays nothing.

mod block;
mod file_system;
mod hung_task;
mod machine_check;
mod memory;

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{LruPerCpuHashMap, ring_buf::RingBufEntry},
};
use probe_abi::{DropClass, FaultKey};

use crate::{
    budget,
    ring::{self, URGENT},
};

/// How many faults of a kind each CPU saw after the first one. The daemon removes a kind that was quiet for a while, so
/// that its next fault is a record again. The time of the last one is not kept: the clock would take a fifth of the program.
#[map]
static FAULTS: LruPerCpuHashMap<FaultKey, u64> = LruPerCpuHashMap::with_max_entries(512, 0);

/// Room for the record of a fault whose kind [`count_repeat`] does not know. None if it cannot be reported: then it is
/// counted.
#[inline(always)]
fn reserve_first<T: 'static>(key: &FaultKey) -> Option<RingBufEntry<T>> {
    if !budget::take_fault(key.fault) {
        ring::count_drop(DropClass::HostFaultThrottled);
        return None;
    }
    // Exits have precedence.
    if !ring::half_free(&URGENT) {
        ring::count_drop(DropClass::HostFault);
        return None;
    }
    // Another CPU may have inserted the kind meanwhile.
    if FAULTS.insert(key, &0, u64::from(BPF_NOEXIST)).is_err() && count_repeat(key) {
        return None;
    }
    let entry = URGENT.reserve::<T>(0);
    if entry.is_none() {
        ring::count_drop(DropClass::HostFault);
        let _ = FAULTS.remove(key);
    }
    entry
}

/// Counts a fault whose kind was reported before; false if it is the first.
#[inline(always)]
fn count_repeat(key: &FaultKey) -> bool {
    let Some(repeats) = FAULTS.get_ptr_mut(key) else { return false };
    // SAFETY: the lookup returned a valid slot of this CPU.
    unsafe { *repeats += 1 };
    true
}
