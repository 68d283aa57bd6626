//! `sched_process_exit`: a process ended, what of, and who did it.

use aya_ebpf::{
    Global,
    macros::{map, raw_tracepoint},
    maps::PerCpuArray,
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use probe_abi::{
    Drop, EXIT_CHILD_OF_INIT, EXIT_NAMESPACE_INIT, EXIT_OOM_VICTIM, EXITS_COUNTERS, EXITS_FILTERED,
    EXITS_SEEN, Exit, KIND_EXIT, SignalNote, WATCHED,
};

use crate::{
    budget::{self, Spender},
    cgroup,
    field::{self, offsets, pointer, read},
    ring::{self, URGENT},
    signal, task, watch,
};

offsets! {
    /// `signal_struct.live`
    OFF_SIGNAL_LIVE;
    /// `signal_struct.flags`
    OFF_SIGNAL_FLAGS;
    /// `signal_struct.group_exit_code`
    OFF_SIGNAL_GROUP_EXIT_CODE;
    /// `signal_struct.maxrss`
    OFF_SIGNAL_MAXRSS;
    /// `signal_struct.oom_mm`
    OFF_SIGNAL_OOM_MM;
}

/// 1 where the tracepoint says itself whether the whole thread group is gone.
#[unsafe(no_mangle)]
static EXIT_HAS_GROUP_DEAD: Global<u32> = Global::new(0);

/// Exits seen and filtered out, by `EXITS_` index.
#[map]
static EXITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(EXITS_COUNTERS, 0);

/// The kernel's `SIGNAL_GROUP_EXIT`.
const SIGNAL_GROUP_EXIT: u32 = 4;
/// Signals that ask a process to end in order: TERM, INT, QUIT, HUP.
const REQUESTS: [u32; 4] = [15, 2, 3, 1];

/// Program for the raw tracepoint `sched_process_exit(task [, group_dead])`, which fires for every thread.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn sched_process_exit(ctx: RawTracePointContext) -> i32 {
    let this = ctx.arg::<u64>(0);
    let shared = pointer(this, &task::OFF_TASK_SIGNAL);
    // Older kernels have no second argument, and reading it would fail the attach. The global is frozen, so to the
    // verifier the branch not taken is no code at all.
    let dead = if EXIT_HAS_GROUP_DEAD.load() != 0 {
        ctx.arg::<u64>(1) & 0xff != 0
    } else {
        read::<u32>(shared, &OFF_SIGNAL_LIVE) == Some(0)
    };
    if !dead {
        return 0;
    }
    ring::increment(&EXITS, EXITS_SEEN);

    let leader = task::leader(this);
    let parent = task::parent(leader);
    let tgid = task::tgid(this);
    let ppid = task::tgid(parent);
    let cgroups = cgroup::of(this);
    // An exit_group() or a fatal signal sets the group's code; otherwise the leader's own is the group's.
    let group_exit = read::<u32>(shared, &OFF_SIGNAL_FLAGS).unwrap_or(0) & SIGNAL_GROUP_EXIT != 0;
    let status: u32 = if group_exit {
        read(shared, &OFF_SIGNAL_GROUP_EXIT_CODE)
    } else {
        read(leader, &task::OFF_TASK_EXIT_CODE)
    }
    .unwrap_or(0);

    let mut flags = 0;
    if pointer(shared, &OFF_SIGNAL_OOM_MM) != 0 {
        flags |= EXIT_OOM_VICTIM;
    }
    let (ns_pid, level) = task::namespaced_pid(leader);
    if level > 0 && ns_pid == 1 {
        flags |= EXIT_NAMESPACE_INIT;
    }
    if ppid == 1 || task::namespaced_pid(parent).0 == 1 {
        flags |= EXIT_CHILD_OF_INIT;
    }
    let own = watch::process(tgid);
    let watched = own || watch::process(ppid) || watch::cgroup(&cgroups);
    if watched {
        flags |= WATCHED;
    }

    let by_force = status & 0x7f != 0 || flags & EXIT_OOM_VICTIM != 0;
    let failed = status != 0 && flags & (WATCHED | EXIT_CHILD_OF_INIT | EXIT_NAMESPACE_INIT) != 0;
    debug!(&ctx, "exit of {} with status {}, flags {}", tgid, status, flags);
    if !(by_force || failed || own) {
        ring::increment(&EXITS, EXITS_FILTERED);
        return 0;
    }
    if !watched {
        if !budget::take(Spender::Exit, &cgroups) {
            ring::count_drop(Drop::ExitThrottled);
            return 0;
        }
        if !ring::half_free(&URGENT) {
            ring::count_drop(Drop::ExitUnwatched);
            return 0;
        }
    }

    let start_ns = task::start_ns(leader);
    let note = match status & 0x7f {
        0 => last_request(tgid, start_ns),
        number => signal::last(tgid, number, start_ns),
    };
    let Some(mut entry) = URGENT.reserve::<Exit>(0) else {
        ring::count_drop(if watched { Drop::ExitWatched } else { Drop::ExitUnwatched });
        return 0;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is the size of an `Exit`; every field is written.
    unsafe {
        ring::write_header(record, KIND_EXIT);
        (*record).start_ns = start_ns;
        (*record).cgroup_v2 = cgroups.v2;
        (*record).cgroup_mem_v1 = cgroups.mem_v1;
        (*record).max_rss_pages = read(shared, &OFF_SIGNAL_MAXRSS).unwrap_or(0);
        (*record).tgid = tgid;
        (*record).ppid = ppid;
        (*record).uid = task::uid(leader);
        (*record).status = status;
        (*record).flags = flags;
        (*record).ns_pid = ns_pid;
        field::copy(&raw mut (*record).comm, leader, &task::OFF_TASK_COMM);
        write_note(&raw mut (*record).signal, note);
    }
    entry.submit(ring::WAKE);
    0
}

/// The latest request to end in order that this process got: what a clean exit may be the answer to.
#[inline(always)]
fn last_request(tgid: u32, start_ns: u64) -> Option<*const SignalNote> {
    let mut latest: Option<*const SignalNote> = None;
    let mut latest_ns = 0;
    for number in REQUESTS {
        if let Some(note) = signal::last(tgid, number, start_ns) {
            // SAFETY: the lookup returned a valid entry.
            let at_ns = unsafe { (*note).at_ns };
            if at_ns > latest_ns {
                latest = Some(note);
                latest_ns = at_ns;
            }
        }
    }
    latest
}

/// Copies a note, or zeros for none.
///
/// # Safety
/// `to` must be in a ring reservation, `from` a map value.
#[inline(always)]
unsafe fn write_note(to: *mut SignalNote, from: Option<*const SignalNote>) {
    // SAFETY: the caller vouches for both.
    unsafe {
        match from {
            Some(from) => {
                (*to).at_ns = (*from).at_ns;
                (*to).sender_start_ns = (*from).sender_start_ns;
                (*to).sender_cgroup_v2 = (*from).sender_cgroup_v2;
                (*to).signal = (*from).signal;
                (*to).code = (*from).code;
                (*to).sender_tgid = (*from).sender_tgid;
                (*to).sender_uid = (*from).sender_uid;
                (*to).origin = (*from).origin;
                (*to).pad = 0;
                (*to).sender_comm = (*from).sender_comm;
            }
            None => {
                (*to).at_ns = 0;
                (*to).sender_start_ns = 0;
                (*to).sender_cgroup_v2 = 0;
                (*to).signal = 0;
                (*to).code = 0;
                (*to).sender_tgid = 0;
                (*to).sender_uid = 0;
                (*to).origin = 0;
                (*to).pad = 0;
                (*to).sender_comm = [0; 16];
            }
        }
    }
}
