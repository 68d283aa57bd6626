//! `mce_record`: the processor reports an error (x86). Only one that it did not correct is reported: the kernel counts the
//! others for the daemon (EDAC).

use aya_ebpf::{Global, macros::raw_tracepoint, programs::RawTracePointContext};
use probe_abi::{FAULT_MACHINE_CHECK, FaultKey, KIND_MACHINE_CHECK, MachineCheck};

use super::{count_repeat, reserve_first};
use crate::{
    field::{offsets, read},
    ring,
};

offsets! {
    /// `mce.status`
    OFF_MCE_STATUS;
    /// `mce.addr`
    OFF_MCE_ADDR;
    /// `mce.bank`
    OFF_MCE_BANK;
    /// `mce.cpuvendor`
    OFF_MCE_VENDOR;
    /// `mce.extcpu`
    OFF_MCE_CPU;
}

/// Offset of the `mce` in the tracepoint's argument: 0 where the argument is an `mce`, that of `mce_hw_err.m` where it
/// is the structure around that.
#[unsafe(no_mangle)]
static MCE_OFFSET: Global<u32> = Global::new(0);

/// `MCI_STATUS_UC`: not corrected.
const UNCORRECTED: u64 = 1 << 61;
/// `MCI_STATUS_DEFERRED`: not corrected, and not yet used. Other vendors have a number in this bit.
const DEFERRED: u64 = 1 << 44;
/// `X86_VENDOR_AMD` and `X86_VENDOR_HYGON`.
const AMD: u32 = 2;
const HYGON: u32 = 9;

/// Program for the raw tracepoint `mce_record(mce)`, `mce_record(mce_hw_err)` on newer kernels.
#[raw_tracepoint(tracepoint = "mce_record")]
pub fn mce_record(ctx: RawTracePointContext) -> i32 {
    let error = ctx.arg::<u64>(0).wrapping_add(u64::from(MCE_OFFSET.load()));
    let status: u64 = read(error, &OFF_MCE_STATUS);
    // The vendor and the bank are single bytes.
    let vendor = u32::from(read::<u16>(error, &OFF_MCE_VENDOR)) & 0xff;
    let may_defer = vendor == AMD || vendor == HYGON;
    let uncorrected = if may_defer { UNCORRECTED | DEFERRED } else { UNCORRECTED };
    if status & uncorrected == 0 {
        return 0;
    }
    let cpu: u32 = read(error, &OFF_MCE_CPU);
    let key = FaultKey { subject: [u64::from(cpu), 0], fault: FAULT_MACHINE_CHECK, variant: 0 };
    if count_repeat(&key) {
        return 0;
    }
    let Some(mut entry) = reserve_first::<MachineCheck>(&key) else { return 0 };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is the size of a `MachineCheck`; every field is written.
    unsafe {
        ring::write_header(record, KIND_MACHINE_CHECK);
        (*record).key = key;
        (*record).status = status;
        (*record).address = read(error, &OFF_MCE_ADDR);
        (*record).cpu = cpu;
        (*record).bank = u32::from(read::<u16>(error, &OFF_MCE_BANK)) & 0xff;
    }
    entry.submit(ring::WAKEUP);
    0
}
