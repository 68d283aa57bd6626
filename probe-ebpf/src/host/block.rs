//! `block_rq_error`: a disk failed a request.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use probe_abi::{BlockError, FAULT_BLOCK, FaultKey, KIND_BLOCK_ERROR};

use super::{count_repeat, reserve_first};
use crate::{
    field::{self, offsets, pointer, read},
    ring,
};

offsets! {
    /// `request.q`
    OFF_REQUEST_QUEUE;
    /// `request.cmd_flags`
    OFF_REQUEST_FLAGS;
    /// `request.__sector`
    OFF_REQUEST_SECTOR;
    /// `request_queue.disk`
    OFF_QUEUE_DISK;
    /// `gendisk.disk_name`
    OFF_DISK_NAME;
    /// `gendisk.major`
    OFF_DISK_MAJOR;
}

/// Statuses (`BLK_STS_`) of a disk that fails: TIMEOUT, NOSPC, TRANSPORT, TARGET, MEDIUM, PROTECTION, RESOURCE, IOERR and
/// DEV_RESOURCE. OFFLINE is 16 on some kernels and 17 on others. The rest say what a disk does not support or whom it
/// is reserved for, or ask for the request again.
const FAILURES: u32 =
    1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 13 | 1 << 16 | 1 << 17;

/// `REQ_OP_MASK`.
const OPERATION: u32 = 0xff;

/// Majors of drives that fail each look at them while they have no medium: `FLOPPY_MAJOR` and `SCSI_CDROM_MAJOR`.
const FLOPPY: u32 = 2;
const CDROM: u32 = 11;

/// Program for the raw tracepoint `block_rq_error(request, blk_status_t error, unsigned int nr_bytes)`.
#[raw_tracepoint(tracepoint = "block_rq_error")]
pub fn block_rq_error(ctx: RawTracePointContext) -> i32 {
    let request = ctx.arg::<u64>(0);
    // The kernel passes one byte; the rest of the argument may hold anything.
    let status = ctx.arg::<u64>(1) as u32 & 0xff;
    let bytes = ctx.arg::<u64>(2) as u32;
    if status > 31 || FAILURES >> (status & 31) & 1 == 0 {
        return 0;
    }
    let queue = pointer(request, &OFF_REQUEST_QUEUE);
    let operation = read::<u32>(request, &OFF_REQUEST_FLAGS) & OPERATION;
    let key = FaultKey { subject: [queue, 0], fault: FAULT_BLOCK, variant: operation | status << 8 };
    // A failing disk comes here with each request.
    if count_repeat(&key) {
        return 0;
    }
    let disk = pointer(queue, &OFF_QUEUE_DISK);
    let major: u32 = read(disk, &OFF_DISK_MAJOR);
    if major == FLOPPY || major == CDROM {
        return 0;
    }
    let Some(mut entry) = reserve_first::<BlockError>(&key) else { return 0 };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is the size of a `BlockError`; every field is written but the unused end of its text.
    unsafe {
        ring::write_header(record, KIND_BLOCK_ERROR);
        (*record).key = key;
        (*record).sector = read(request, &OFF_REQUEST_SECTOR);
        (*record).bytes = bytes;
        (*record).operation = operation;
        (*record).status = status;
        (*record).pad = 0;
        field::copy_text(&raw mut (*record).disk, field::address(disk, &OFF_DISK_NAME));
    }
    entry.submit(ring::WAKEUP);
    0
}
