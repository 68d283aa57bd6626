//! `sched_process_exec`: a process replaced its program.
//!
//! At exit, the command line in /proc is already empty (0 of 202 exits had one). So it is recorded here, while the process
//! lives.

use aya_ebpf::{helpers::generated, macros::raw_tracepoint, programs::RawTracePointContext};
use aya_log_ebpf::debug;
use probe_abi::{ARGV_LEN, DropClass, EXEC_ARGV_TRUNCATED, Exec, FILENAME_LEN, KIND_EXEC, WATCHED};

use crate::{
    cgroup,
    field::{self, offsets, pointer},
    ring::{self, BULK},
    task, watch,
};

offsets! {
    /// `linux_binprm.filename`
    OFF_BINPRM_FILENAME;
    /// `mm_struct.arg_start`
    OFF_MM_ARG_START;
    /// `mm_struct.arg_end`
    OFF_MM_ARG_END;
}

/// Program for the raw tracepoint `sched_process_exec(task, old_pid, binprm)`.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn sched_process_exec(ctx: RawTracePointContext) -> i32 {
    let this = ctx.arg::<u64>(0);
    // The task that execs is the current one.
    let tgid = task::current_tgid(this);
    if task::is_outside_namespace(tgid) {
        return 0;
    }
    debug!(&ctx, "exec of {}", tgid);
    let leader = task::leader(this);
    let ppid = task::tgid(task::parent(leader));
    let cgroups = cgroup::of_current(this);
    let start_ns = task::start_ns(leader);
    let direct = watch::is_watched_directly(tgid, ppid, &cgroups);
    if !direct && !ring::half_free(&BULK) {
        ring::count_drop(DropClass::Exec);
        return 0;
    }
    let Some(mut entry) = BULK.reserve::<Exec>(0) else {
        ring::count_drop(DropClass::Exec);
        return 0;
    };
    let record = entry.as_mut_ptr();
    let memory = pointer(this, &task::OFF_TASK_MM);
    let start = pointer(memory, &OFF_MM_ARG_START);
    let size = pointer(memory, &OFF_MM_ARG_END).wrapping_sub(start);
    let mut flags = if direct || watch::membership(tgid, || start_ns).lineage != 0 { WATCHED } else { 0 };
    // SAFETY: the reservation is the size of an `Exec`; every field is written but the unused ends of its buffers.
    unsafe {
        ring::write_header(record, KIND_EXEC);
        (*record).start_ns = start_ns;
        (*record).cgroup_v2 = cgroups.v2;
        (*record).cgroup_mem_v1 = cgroups.mem_v1;
        (*record).tgid = tgid;
        (*record).ppid = ppid;
        (*record).uid = task::uid(leader);
        (*record).pid_namespace = task::pid_namespace(leader);
        (*record).pad = 0;
        field::copy(&raw mut (*record).comm, this, &task::OFF_TASK_COMM);

        let path = pointer(ctx.arg::<u64>(2), &OFF_BINPRM_FILENAME);
        let written = generated::bpf_probe_read_kernel_str(
            (&raw mut (*record).filename).cast(),
            FILENAME_LEN as u32,
            path as *const _,
        );
        (*record).filename_len = if written > 0 { (written - 1) as u32 } else { 0 };

        // The environment, with its secrets, follows the arguments in memory: never read past their end.
        let length = if size > ARGV_LEN as u64 {
            flags |= EXEC_ARGV_TRUNCATED;
            ARGV_LEN as u64
        } else {
            size
        };
        (*record).argv_len = match read_user(&raw mut (*record).argv, length, start) {
            0 => length as u32,
            _ => 0,
        };
        (*record).flags = flags;
    }
    entry.submit(ring::NO_WAKEUP);
    0
}

/// Copies user memory of the current process; 0 on success.
///
/// # Safety
/// `to` must be in a ring reservation, `length` at most `ARGV_LEN`.
#[inline(always)]
unsafe fn read_user(to: *mut [u8; ARGV_LEN], length: u64, from: u64) -> i64 {
    // SAFETY: the caller guarantees the destination; the helper checks the source.
    unsafe { generated::bpf_probe_read_user(to.cast(), length as u32, from as *const _) as i64 }
}
