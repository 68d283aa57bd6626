//! `sched_process_fork`: a process is born, into the family of its parent.
//!
//! Who outlives its parent is given another one, and then nothing tells any more where it came from. So the descendants of
//! watched processes are noted as they are born.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use aya_log_ebpf::debug;

use crate::{task, watch};

/// Program for the raw tracepoint `sched_process_fork(parent, child)`, which fires for every thread too.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn sched_process_fork(ctx: RawTracePointContext) -> i32 {
    let parent = ctx.arg::<u64>(0);
    let child = ctx.arg::<u64>(1);
    // The parent is the current task: it is the one that forks.
    let (tgid, parent_tgid) = (task::tgid(child), task::current_tgid(parent));
    // A new thread; or nobody whom the daemon could see.
    if tgid == parent_tgid || task::is_elsewhere(parent_tgid) {
        return 0;
    }
    let family = watch::ties(parent_tgid, || task::start_ns(task::leader(parent))).family;
    if family != 0 {
        debug!(&ctx, "{} is born into family {}", tgid, family);
        watch::add(tgid, task::start_ns(child), family);
    }
    0
}
