//! `mark_victim`: the OOM killer chose a victim.

use aya_ebpf::{
    EbpfContext, Global,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_stack},
    macros::{map, raw_tracepoint},
    maps::PerCpuArray,
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use probe_abi::{DropClass, KIND_OOM, OOM_VICTIM_KNOWN, Oom, STACK_FRAMES};

use crate::{
    cgroup,
    field::{self, offsets, pointer, read},
    ring::{self, URGENT},
    task,
};

offsets! {
    /// `signal_struct.oom_score_adj`
    OFF_SIGNAL_OOM_SCORE_ADJ;
    /// `mm_struct.rss_stat`, the counter of anonymous pages
    OFF_MM_RSS_ANON;
    /// `mm_struct.rss_stat`, the counter of file pages
    OFF_MM_RSS_FILE;
    /// `mm_struct.rss_stat`, the counter of shared memory pages
    OFF_MM_RSS_SHMEM;
    /// `mm_struct.rss_stat`, the counter of swap entries
    OFF_MM_RSS_SWAP;
}

/// 1 where the tracepoint passes the victim's task, 0 where it passes the thread id only.
#[unsafe(no_mangle)]
static MARK_VICTIM_HAS_TASK: Global<u32> = Global::new(0);

/// The last task on this CPU to which the kernel sent a SIGKILL. Where `mark_victim` passes a thread id only, the program
/// finds the victim's task here: the OOM killer signals it just before, under a spin lock.
#[map]
static OOM_CANDIDATE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Notes the task to which the kernel sends a SIGKILL.
#[inline(always)]
pub fn remember_candidate(task: u64) {
    if let Some(slot) = OOM_CANDIDATE.get_ptr_mut(0) {
        // SAFETY: the lookup returned a valid slot of this CPU.
        unsafe { *slot = task };
    }
}

/// Program for the raw tracepoint `mark_victim(task, uid)`, `mark_victim(int pid)` on older kernels.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn mark_victim(ctx: RawTracePointContext) -> i32 {
    let argument = ctx.arg::<u64>(0);
    let (victim, tid) = if MARK_VICTIM_HAS_TASK.load() != 0 {
        (argument, task::tid(argument))
    } else {
        let victim = find_victim(argument as u32);
        // Without the task, only the tracepoint's argument is known.
        (victim, if victim == 0 { argument as u32 } else { task::tid(victim) })
    };
    let tgid = task::tgid(victim);
    debug!(&ctx, "oom victim {} of group {}", tid, tgid);
    if task::is_outside_namespace(tgid) {
        return 0;
    }

    let Some(mut entry) = URGENT.reserve::<Oom>(0) else {
        ring::count_drop(DropClass::Oom);
        return 0;
    };
    let record = entry.as_mut_ptr();
    let leader = task::leader(victim);
    let memory = pointer(victim, &task::OFF_TASK_MM);
    let shared = pointer(victim, &task::OFF_TASK_SIGNAL);
    let cgroups = cgroup::of(victim);
    // SAFETY: the reservation is the size of an `Oom`; every field is written.
    unsafe {
        ring::write_header(record, KIND_OOM);
        (*record).start_ns = task::start_ns(leader);
        (*record).cgroup_v2 = cgroups.v2;
        (*record).cgroup_mem_v1 = cgroups.mem_v1;
        (*record).anon_pages = pages(memory, &OFF_MM_RSS_ANON);
        (*record).file_pages = pages(memory, &OFF_MM_RSS_FILE);
        (*record).shmem_pages = pages(memory, &OFF_MM_RSS_SHMEM);
        (*record).swap_pages = pages(memory, &OFF_MM_RSS_SWAP);
        cgroup::write_limits(victim, &raw mut (*record).limit_pages);
        (*record).stack = [0; STACK_FRAMES];
        bpf_get_stack(
            ctx.as_ptr(),
            (&raw mut (*record).stack).cast(),
            size_of::<[u64; STACK_FRAMES]>() as u32,
            0,
        );
        (*record).tgid = tgid;
        (*record).tid = tid;
        (*record).uid = task::uid(victim);
        (*record).score_adj = i32::from(read::<i16>(shared, &OFF_SIGNAL_OOM_SCORE_ADJ));
        (*record).trigger_tgid = task::tgid(task::current());
        (*record).flags = if victim == 0 { 0 } else { OOM_VICTIM_KNOWN };
        field::copy(&raw mut (*record).comm, leader, &task::OFF_TASK_COMM);
        field::copy(&raw mut (*record).trigger_comm, task::leader(task::current()), &task::OFF_TASK_COMM);
    }
    entry.submit(ring::WAKEUP);
    0
}

/// The victim's task by its thread id. It is the task that the kernel just signalled, or the current one: an allocation in
/// a process that is already dying marks it without a signal. 0 if neither matches.
#[inline(always)]
fn find_victim(tid: u32) -> u64 {
    if let Some(slot) = OOM_CANDIDATE.get_ptr(0) {
        // SAFETY: the lookup returned a valid slot of this CPU.
        let candidate = unsafe { *slot };
        if read::<u32>(candidate, &task::OFF_TASK_PID) == tid {
            return candidate;
        }
    }
    if bpf_get_current_pid_tgid() as u32 == tid { task::current() } else { 0 }
}

/// One resident set counter. It is approximate and may be below 0 for a moment.
#[inline(always)]
fn pages(memory: u64, offset: &Global<u32>) -> u64 {
    let count = read::<i64>(memory, offset);
    if count < 0 { 0 } else { count as u64 }
}
