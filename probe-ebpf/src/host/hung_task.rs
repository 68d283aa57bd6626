//! `sched_process_hang`: the kernel's detector found a task that has not run for longer than `kernel.hung_task_timeout_secs`.
//!
//! It finds the same task again at each of its rounds, for as long as the task hangs. It does so too after it has written
//! its last warning to the log (`kernel.hung_task_warnings`).

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use probe_abi::{COMM_LEN, FAULT_HUNG_TASK, FaultKey, HungTask, KIND_HUNG_TASK};

use super::{count_repeat, reserve_first};
use crate::{cgroup, field, ring, task};

/// Program for the raw tracepoint `sched_process_hang(task)`.
#[raw_tracepoint(tracepoint = "sched_process_hang")]
pub fn sched_process_hang(ctx: RawTracePointContext) -> i32 {
    let hung = ctx.arg::<u64>(0);
    let mut key = FaultKey { subject: [0; 2], fault: FAULT_HUNG_TASK, variant: 0 };
    // SAFETY: the key is on this program's stack, and what is at fault is as long as the name.
    unsafe {
        let subject = (&raw mut key.subject).cast::<[u8; COMM_LEN]>();
        field::copy_text(subject, field::address(hung, &task::OFF_TASK_COMM));
    }
    if count_repeat(&key) {
        return 0;
    }
    let Some(mut entry) = reserve_first::<HungTask>(&key) else { return 0 };
    let record = entry.as_mut_ptr();
    let leader = task::leader(hung);
    let cgroups = cgroup::of(hung);
    // SAFETY: the reservation is the size of a `HungTask`; every field is written.
    unsafe {
        ring::write_header(record, KIND_HUNG_TASK);
        (*record).key = key;
        (*record).start_ns = task::start_ns(leader);
        (*record).cgroup_v2 = cgroups.v2;
        (*record).cgroup_mem_v1 = cgroups.mem_v1;
        (*record).tgid = task::tgid(hung);
        (*record).tid = task::tid(hung);
        field::copy(&raw mut (*record).comm, leader, &task::OFF_TASK_COMM);
        field::copy(&raw mut (*record).thread_comm, hung, &task::OFF_TASK_COMM);
    }
    entry.submit(ring::WAKEUP);
    0
}
