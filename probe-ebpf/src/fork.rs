//! `sched_process_fork`: a child joins the lineage of its parent.
//!
//! The kernel gives an orphan another parent, and from then on no field says which process it descends from. So this
//! program notes the descendants of watched processes at their birth.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use aya_log_ebpf::debug;

use crate::{task, watch};

/// Program for the raw tracepoint `sched_process_fork(parent, child)`, which fires for threads too.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn sched_process_fork(ctx: RawTracePointContext) -> i32 {
    let parent = ctx.arg::<u64>(0);
    let child = ctx.arg::<u64>(1);
    // The parent is the current task.
    let (tgid, parent_tgid) = (task::tgid(child), task::current_tgid(parent));
    // A new thread, or a process outside the daemon's pid namespace.
    if tgid == parent_tgid || task::is_outside_namespace(parent_tgid) {
        return 0;
    }
    let lineage = watch::membership(parent_tgid, || task::start_ns(task::leader(parent))).lineage;
    if lineage != 0 {
        debug!(&ctx, "{} joins lineage {}", tgid, lineage);
        watch::add_descendant(tgid, task::start_ns(child), lineage);
    }
    0
}
