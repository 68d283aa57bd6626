//! `mc_event`: a driver of a memory controller (EDAC) reports an error. Only one that was not corrected is reported: the
//! daemon reads the counts of the others.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use probe_abi::{FAULT_MEMORY, FaultKey, KIND_MEMORY_ERROR, MemoryError};

use super::{count_repeat, reserve_first};
use crate::{field, ring};

/// `HW_EVENT_ERR_UNCORRECTED`, the first of three; `HW_EVENT_ERR_FATAL`, the last of them.
const UNCORRECTED: u32 = 1;
const FATAL: u32 = 3;

/// Program for the raw tracepoint `mc_event(unsigned int err_type, const char *error_msg, const char *label, int
/// error_count, u8 mc_index, s8 top_layer, s8 mid_layer, s8 low_layer, unsigned long address, …)`.
#[raw_tracepoint(tracepoint = "mc_event")]
pub fn mc_event(ctx: RawTracePointContext) -> i32 {
    let severity = ctx.arg::<u64>(0) as u32;
    if !(UNCORRECTED..=FATAL).contains(&severity) {
        return 0;
    }
    let controller = ctx.arg::<u64>(4) as u32 & 0xff;
    let key = FaultKey { subject: [u64::from(controller), 0], fault: FAULT_MEMORY, variant: 0 };
    if count_repeat(&key) {
        return 0;
    }
    let Some(mut entry) = reserve_first::<MemoryError>(&key) else { return 0 };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is the size of a `MemoryError`; every field is written but the unused ends of its texts.
    unsafe {
        ring::write_header(record, KIND_MEMORY_ERROR);
        (*record).key = key;
        (*record).address = ctx.arg::<u64>(8);
        (*record).errors = ctx.arg::<u64>(3) as u32;
        (*record).severity = severity;
        (*record).controller = controller;
        (*record).pad = 0;
        field::copy_text(&raw mut (*record).label, ctx.arg::<u64>(2));
        field::copy_text(&raw mut (*record).message, ctx.arg::<u64>(1));
    }
    entry.submit(ring::WAKEUP);
    0
}
