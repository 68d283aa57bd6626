//! The two ring buffers to the daemon, and the counts of lost records.
//!
//! A wake-up costs far more than the record itself: 10–23 µs against 0.6–1.2 µs. So records that the daemon must act on at
//! once go to `URGENT` and wake it. The others go to `BULK`, which the daemon reads about once a second. One ring must never
//! hold both kinds: after a record without a wake-up, one with default flags does not wake the reader either.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE},
    helpers::bpf_ktime_get_boot_ns,
    macros::map,
    maps::{PerCpuArray, RingBuf},
};
use probe_abi::{DROP_CLASSES, DropClass, Header};

/// Records that wake the daemon, which also sets the size.
#[map]
pub static URGENT: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

/// Records that the daemon reads about once a second. The daemon sets the size.
#[map]
pub static BULK: RingBuf = RingBuf::with_byte_size(1024 * 1024, 0);

/// Lost records, by [`DropClass`].
#[map]
static DROPS: PerCpuArray<u64> = PerCpuArray::with_max_entries(DROP_CLASSES, 0);

/// Submit flags for `URGENT`: wakes the reader if it has caught up.
pub const WAKEUP: u64 = 0;
/// Submit flags for `BULK`.
pub const NO_WAKEUP: u64 = BPF_RB_NO_WAKEUP as u64;

#[inline(always)]
pub fn count_drop(class: DropClass) {
    increment(&DROPS, class as u32);
}

/// Adds one to this CPU's slot. A plain store suffices: no other CPU writes the slot, and these programs do not nest.
#[inline(always)]
pub fn increment(counters: &PerCpuArray<u64>, index: u32) {
    if let Some(counter) = counters.get_ptr_mut(index) {
        // SAFETY: the lookup returned a valid slot of this CPU.
        unsafe { *counter += 1 };
    }
}

/// Whether a ring is less than half full. Only watched processes may use the second half, so that a flood of other records
/// never displaces theirs.
#[inline(always)]
pub fn half_free(ring: &RingBuf) -> bool {
    ring.query(u64::from(BPF_RB_AVAIL_DATA)) < ring.query(u64::from(BPF_RB_RING_SIZE)) / 2
}

/// # Safety
/// `record` must start a reservation of at least `T`'s size, and `T` with a [`Header`].
#[inline(always)]
pub unsafe fn write_header<T>(record: *mut T, kind: u32) {
    let header = record.cast::<Header>();
    // SAFETY: the caller guarantees the memory. Each field is written by itself, because a whole structure would first be
    // built on the stack.
    unsafe {
        (*header).kind = kind;
        (*header).size = size_of::<T>() as u32;
        (*header).at_ns = bpf_ktime_get_boot_ns();
    }
}
