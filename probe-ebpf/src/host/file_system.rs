//! `ext4_error` and `xfs_force_shutdown`: a file system found an error in itself, or gave up.
//!
//! The tracepoints of a file system that is a module are there once it is loaded.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use probe_abi::{FAULT_EXT4, FAULT_XFS, FaultKey, FileSystemError, KIND_FILE_SYSTEM_ERROR};

use super::{count_repeat, reserve_first};
use crate::{
    field::{self, offsets, pointer, read},
    ring, task,
};

offsets! {
    /// `super_block.s_id`
    OFF_SUPER_ID;
    /// `super_block.s_dev`
    OFF_SUPER_DEV;
    /// `xfs_mount.m_super`
    OFF_XFS_SUPER;
}

/// `SHUTDOWN_FORCE_UMOUNT`: a user asked for it.
const XFS_ASKED: u32 = 4;

/// Program for the raw tracepoint `ext4_error(super_block, const char *function, unsigned int line)`.
#[raw_tracepoint(tracepoint = "ext4_error")]
pub fn ext4_error(ctx: RawTracePointContext) -> i32 {
    let place = Place { function: ctx.arg::<u64>(1), line: ctx.arg::<u64>(2) as u32, flags: 0 };
    let super_block = ctx.arg::<u64>(0);
    let key = FaultKey { subject: [super_block, 0], fault: FAULT_EXT4, variant: 0 };
    if !count_repeat(&key) {
        submit(&key, super_block, &place);
    }
    0
}

/// Program for the raw tracepoint
/// `xfs_force_shutdown(xfs_mount, int ptag, int flags, const char *fname, int line_num)`.
#[raw_tracepoint(tracepoint = "xfs_force_shutdown")]
pub fn xfs_force_shutdown(ctx: RawTracePointContext) -> i32 {
    let flags = ctx.arg::<u64>(2) as u32;
    if flags & XFS_ASKED != 0 {
        return 0;
    }
    let place = Place { function: ctx.arg::<u64>(3), line: ctx.arg::<u64>(4) as u32, flags };
    let mount = ctx.arg::<u64>(0);
    let key = FaultKey { subject: [mount, 0], fault: FAULT_XFS, variant: 0 };
    if !count_repeat(&key) {
        submit(&key, pointer(mount, &OFF_XFS_SUPER), &place);
    }
    0
}

/// Where the kernel found the error.
struct Place {
    /// Address of the name of a function or of a file.
    function: u64,
    line: u32,
    flags: u32,
}

#[inline(always)]
fn submit(key: &FaultKey, super_block: u64, place: &Place) {
    let Some(mut entry) = reserve_first::<FileSystemError>(key) else { return };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is the size of a `FileSystemError`; every field is written but the unused ends of its texts.
    unsafe {
        ring::write_header(record, KIND_FILE_SYSTEM_ERROR);
        (*record).key = *key;
        (*record).device = read(super_block, &OFF_SUPER_DEV);
        (*record).line = place.line;
        (*record).flags = place.flags;
        (*record).tgid = task::tgid(task::current());
        task::copy_current_comm(&raw mut (*record).comm);
        field::copy_text(&raw mut (*record).target, field::address(super_block, &OFF_SUPER_ID));
        field::copy_text(&raw mut (*record).place, place.function);
    }
    entry.submit(ring::WAKEUP);
}
