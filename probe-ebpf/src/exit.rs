//! `sched_process_exit`: a process ended, what of, and who did it.

use aya_ebpf::{
    Global,
    bindings::BPF_NOEXIST,
    macros::{map, raw_tracepoint},
    maps::{LruHashMap, PerCpuArray},
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use probe_abi::{
    DropClass, EXIT_CHILD_OF_INIT, EXIT_NAMESPACE_INIT, EXIT_OOM_VICTIM, EXITS_COUNTERS, EXITS_ELSEWHERE,
    EXITS_FILTERED, EXITS_WANTED, Exit, KIND_EXIT, SignalNote, WATCHED,
};

use crate::{
    budget::{self, Spender},
    cgroup,
    field::{self, offsets, pointer, read, typed},
    known,
    ring::{self, URGENT},
    signal, task,
    watch::{self, Ties},
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

/// A process that has ended.
#[repr(C)]
struct Ended {
    /// Start of its thread group.
    start_ns: u64,
    /// Its thread group id in the initial pid namespace, which every process has.
    tgid: u64,
}

/// The last ends, where the tracepoint does not say which thread is the last one. The value is unused.
#[map]
static ENDED: LruHashMap<Ended, u32> = LruHashMap::with_max_entries(8192, 0);

/// Room for [`Flags`].
#[map]
static EXIT_FLAGS: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// The kernel's `SIGNAL_GROUP_EXIT`.
const SIGNAL_GROUP_EXIT: u32 = 4;

/// In [`Flags`] alone: watched for more than its family.
const NEAR: u32 = 1 << 31;

/// `EEXIST`, as helpers return it.
const EXISTS: i32 = -17;

/// Flags that make an exit code worth a record.
const OF_INTEREST: u32 = EXIT_OOM_VICTIM | WATCHED | EXIT_CHILD_OF_INIT | EXIT_NAMESPACE_INIT;

/// Program for the raw tracepoint `sched_process_exit(task [, group_dead])`, which fires for every thread.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn sched_process_exit(ctx: RawTracePointContext) -> i32 {
    // The task of the tracepoint, which ends by itself.
    let this = task::current_typed();
    // Older kernels have no second argument, and reading it would fail the attach. The global is frozen, so to the
    // verifier the branch not taken is no code at all.
    let dead = if EXIT_HAS_GROUP_DEAD.load() != 0 {
        ctx.arg::<u64>(1) & 0xff != 0
    } else {
        let shared = pointer(ctx.arg::<u64>(0), &task::OFF_TASK_SIGNAL);
        read::<u32>(shared, &OFF_SIGNAL_LIVE) == 0
    };
    if !dead {
        return 0;
    }
    let shared: u64 = typed(this, &task::OFF_TASK_SIGNAL);
    let leader = task::typed_leader(this);
    if EXIT_HAS_GROUP_DEAD.load() == 0 && !is_first(ctx.arg::<u64>(0), leader) {
        return 0;
    }
    let status = status(shared, leader);
    let tgid = task::typed_tgid(this);
    debug!(&ctx, "exit of {} with status {}", tgid, status);
    if task::is_elsewhere(tgid) {
        ring::increment(&EXITS, EXITS_ELSEWHERE);
        return 0;
    }
    let Ties { headed, family } = watch::ties(tgid, || task::typed_start_ns(leader));
    let own = headed != 0;
    if family != 0 {
        // Its id may be somebody else's in a moment.
        watch::forget(tgid, own);
    }
    // Most processes end well and are nobody's concern. For them the work stops here. An OOM victim that still ends by
    // itself was on its way out when it was chosen, and `mark_victim` tells of it. To ask for `oom_mm` here would be to
    // fetch a line of memory that nobody has touched since the fork.
    if status == 0 && !own {
        ring::increment(&EXITS, EXITS_FILTERED);
        return 0;
    }

    let parent = task::typed_parent(leader);
    let ppid = task::typed_tgid(parent);
    let level = task::namespace_level(leader);
    // Most of those that fail are nobody's concern either, as a few looks tell. Who is in a namespace of its own may be
    // its init, or a child of that.
    if status & 0x7f == 0
        && family == 0
        && level == 0
        && ppid != 1
        && !known::process(ppid)
        && !cgroup::current_may_be_watched(this)
    {
        ring::increment(&EXITS, EXITS_FILTERED);
        return 0;
    }

    let oom_mm: u64 = typed(shared, &OFF_SIGNAL_OOM_MM);
    let start_ns = task::typed_start_ns(leader);
    let cgroups = cgroup::of_current(this);
    // A parent is never nested deeper than its child.
    let (ns_pid, parent_ns_pid) = match level {
        0 => (tgid, ppid),
        _ => (task::namespaced_pid(leader), task::namespaced_pid(parent)),
    };
    let Some(flags) = Flags::new() else { return 0 };
    if own {
        flags.set(WATCHED | NEAR);
    }
    if oom_mm != 0 {
        flags.set(EXIT_OOM_VICTIM);
    }
    if level > 0 && ns_pid == 1 {
        flags.set(EXIT_NAMESPACE_INIT);
    }
    if ppid == 1 || parent_ns_pid == 1 {
        flags.set(EXIT_CHILD_OF_INIT);
    }
    if family != 0 {
        flags.set(WATCHED);
    }
    if watch::process(ppid) || watch::cgroup(&cgroups) {
        flags.set(WATCHED | NEAR);
    }
    let flags = flags.get();
    let near = flags & NEAR != 0;

    // A death by signal always counts, any other failure only if somebody looks after the process.
    if status & 0x7f == 0 && flags & OF_INTEREST == 0 {
        ring::increment(&EXITS, EXITS_FILTERED);
        return 0;
    }
    ring::increment(&EXITS, EXITS_WANTED);
    if !near {
        if !budget::take(Spender::Exit, &cgroups) {
            ring::count_drop(DropClass::ExitThrottled);
            return 0;
        }
        if !ring::half_free(&URGENT) {
            ring::count_drop(DropClass::ExitUnwatched);
            return 0;
        }
    }

    let note = signal::last(tgid, status & 0x7f, start_ns);
    let Some(mut entry) = URGENT.reserve::<Exit>(0) else {
        ring::count_drop(if near { DropClass::ExitWatched } else { DropClass::ExitUnwatched });
        return 0;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is the size of an `Exit`; every field is written.
    unsafe {
        ring::write_header(record, KIND_EXIT);
        (*record).start_ns = start_ns;
        (*record).cgroup_v2 = cgroups.v2;
        (*record).cgroup_mem_v1 = cgroups.mem_v1;
        (*record).max_rss_pages = typed(shared, &OFF_SIGNAL_MAXRSS);
        (*record).tgid = tgid;
        (*record).ppid = ppid;
        (*record).uid = task::uid(leader);
        (*record).status = status;
        (*record).flags = flags & !NEAR;
        (*record).ns_pid = ns_pid;
        (*record).family = family;
        (*record).pad = 0;
        field::copy(&raw mut (*record).comm, leader, &task::OFF_TASK_COMM);
        write_note(&raw mut (*record).signal, note);
    }
    entry.submit(ring::WAKE);
    0
}

/// The wait status of the process. An exit_group() or a fatal signal sets the group's code; otherwise the leader's own is
/// the group's. Mostly the two are the same, and which of them counts need not be asked.
#[inline(always)]
fn status(shared: u64, leader: u64) -> u32 {
    let of_group: u32 = typed(shared, &OFF_SIGNAL_GROUP_EXIT_CODE);
    let own: u32 = typed(leader, &task::OFF_TASK_EXIT_CODE);
    if of_group != own && typed::<u32>(shared, &OFF_SIGNAL_FLAGS) & SIGNAL_GROUP_EXIT != 0 {
        of_group
    } else {
        own
    }
}

/// Whether no other thread of the process was taken for its last one.
///
/// `signal->live` is counted down before the tracepoint, so several threads that end at once may all find it at 0. An
/// insertion that must find nothing is atomic. One that fails for another reason counts: twice told is better than lost.
#[inline(always)]
fn is_first(this: u64, leader: u64) -> bool {
    let tgid = u64::from(read::<u32>(this, &task::OFF_TASK_TGID));
    let ended = Ended { start_ns: task::start_ns(leader), tgid };
    ENDED.insert(&ended, &0, u64::from(BPF_NOEXIST)) != Err(EXISTS)
}

/// Flags in memory that the verifier does not track.
///
/// In a register, each flag would double the states it has to tell apart from here to the end, and older kernels give
/// up on that. Volatile, or the compiler would move them into a register again.
struct Flags(*mut u32);

impl Flags {
    #[inline(always)]
    fn new() -> Option<Self> {
        let slot = EXIT_FLAGS.get_ptr_mut(0)?;
        // SAFETY: the lookup returned a valid slot of this CPU.
        unsafe { slot.write_volatile(0) };
        Some(Self(slot))
    }

    #[inline(always)]
    fn set(&self, flags: u32) {
        // SAFETY: as in `new`.
        unsafe { self.0.write_volatile(self.0.read_volatile() | flags) };
    }

    #[inline(always)]
    fn get(&self) -> u32 {
        // SAFETY: as in `new`.
        unsafe { self.0.read_volatile() }
    }
}

/// Copies a note, or zeros for none.
///
/// # Safety
/// `to` must be in a ring reservation, `from` a map value or on the stack.
#[inline(always)]
pub unsafe fn write_note(to: *mut SignalNote, from: Option<*const SignalNote>) {
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
