//! The two ways out of the kernel, and the count of what did not get through.
//!
//! A wake-up costs far more than the record itself. What must be acted on at once goes to `URGENT` and wakes the
//! daemon; what only has to be known later goes to `BULK` and waits to be collected. The flags of the two must never
//! be mixed in one ring: after a record without a wake-up, one with default flags does not wake the reader either.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE},
    helpers::bpf_ktime_get_boot_ns,
    macros::map,
    maps::{PerCpuArray, RingBuf},
};
use probe_abi::{DROP_CLASSES, DropClass, Header};

/// Records that wake the daemon. The daemon sets the size.
#[map]
pub static URGENT: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

/// Records that the daemon collects about once a second. The daemon sets the size.
#[map]
pub static BULK: RingBuf = RingBuf::with_byte_size(1024 * 1024, 0);

/// Records lost, by [`DropClass`] class.
#[map]
static DROPS: PerCpuArray<u64> = PerCpuArray::with_max_entries(DROP_CLASSES, 0);

/// Submit flags for `URGENT`: wake the reader if it has caught up.
pub const WAKE: u64 = 0;
/// Submit flags for `BULK`.
pub const SILENT: u64 = BPF_RB_NO_WAKEUP as u64;

/// Counts a record that could not be delivered.
#[inline(always)]
pub fn count_drop(class: DropClass) {
    increment(&DROPS, class as u32);
}

/// Adds one to this CPU's slot. Plain memory will do: no other CPU writes it, and these programs do not nest.
#[inline(always)]
pub fn increment(counters: &PerCpuArray<u64>, index: u32) {
    if let Some(counter) = counters.get_ptr_mut(index) {
        // SAFETY: the lookup returned a valid slot of this CPU.
        unsafe { *counter += 1 };
    }
}

/// Whether a ring is less than half full. Only watched processes may use the second half, so that a flood of others
/// never pushes them out.
#[inline(always)]
pub fn half_free(ring: &RingBuf) -> bool {
    ring.query(u64::from(BPF_RB_AVAIL_DATA)) < ring.query(u64::from(BPF_RB_RING_SIZE)) / 2
}

/// Fills in a record's header.
///
/// # Safety
/// `record` must start a reservation of at least `T`'s size, and `T` with a [`Header`].
#[inline(always)]
pub unsafe fn write_header<T>(record: *mut T, kind: u32) {
    let header = record.cast::<Header>();
    // SAFETY: the caller vouches for the memory; field by field, as whole structures become a copy on the stack.
    unsafe {
        (*header).kind = kind;
        (*header).size = size_of::<T>() as u32;
        (*header).at_ns = bpf_ktime_get_boot_ns();
    }
}
