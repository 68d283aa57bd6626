//! `sched_process_exit`: a process ended, how, and by whose signal.

use aya_ebpf::{
    Global,
    bindings::BPF_NOEXIST,
    macros::{map, raw_tracepoint},
    maps::{LruHashMap, PerCpuArray},
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use probe_abi::{
    DropClass, EXIT_CHILD_OF_INIT, EXIT_NAMESPACE_INIT, EXIT_OOM_VICTIM, EXITS_COUNTERS, EXITS_FILTERED,
    EXITS_OUTSIDE_NAMESPACE, EXITS_WANTED, Exit, KIND_EXIT, WATCHED,
};

use crate::{
    budget::{self, Budget},
    cgroup,
    field::{self, offsets, pointer, read, typed},
    prefilter,
    ring::{self, URGENT},
    sent_signal, task,
    watch::{self, Membership},
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

/// 1 where the tracepoint says whether the whole thread group is dead.
#[unsafe(no_mangle)]
static EXIT_HAS_GROUP_DEAD: Global<u32> = Global::new(0);

/// Counts of exits, by `EXITS_` index.
#[map]
static EXITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(EXITS_COUNTERS, 0);

#[repr(C)]
struct Ended {
    start_ns: u64,
    /// In the initial pid namespace, where every process has an id.
    tgid: u64,
}

/// The last processes that ended, where the tracepoint does not say which thread is the last. The value is unused.
#[map]
static ENDED: LruHashMap<Ended, u32> = LruHashMap::with_max_entries(8192, 0);

/// Memory of [`Flags`].
#[map]
static EXIT_FLAGS: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// The kernel's `SIGNAL_GROUP_EXIT`.
const SIGNAL_GROUP_EXIT: u32 = 4;

/// In [`Flags`] only: watched, and for more than its lineage.
const DIRECT: u32 = 1 << 31;

/// `EEXIST`, as helpers return it.
const EXISTS: i32 = -17;

/// Flags that make an exit code worth a record.
const INTERESTING: u32 = EXIT_OOM_VICTIM | WATCHED | EXIT_CHILD_OF_INIT | EXIT_NAMESPACE_INIT;

/// Program for the raw tracepoint `sched_process_exit(task [, group_dead])`, which fires for every thread.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn sched_process_exit(ctx: RawTracePointContext) -> i32 {
    // The task that exits is the current one.
    let this = task::current_typed();
    // Older kernels have no second argument, and a read of it fails the attach. The global is frozen, so the branch not
    // taken is dead code to the verifier.
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
    if task::is_outside_namespace(tgid) {
        ring::increment(&EXITS, EXITS_OUTSIDE_NAMESPACE);
        return 0;
    }
    let Membership { headed, lineage } = watch::membership(tgid, || task::typed_start_ns(leader));
    let heads_lineage = headed != 0;
    if lineage != 0 {
        // The kernel may give the id to another process at once.
        watch::remove(tgid, heads_lineage);
    }
    // Most exits are clean and of unwatched processes. The program stops here for them. A clean exit of an OOM victim was
    // under way before the choice, and `mark_victim` reports it. A read of `oom_mm` here would fetch a cache line that was
    // last used at the fork.
    if status == 0 && !heads_lineage {
        ring::increment(&EXITS, EXITS_FILTERED);
        return 0;
    }

    let parent = task::typed_parent(leader);
    let ppid = task::typed_tgid(parent);
    let level = task::namespace_level(leader);
    // Most failures are of unwatched processes too, and the prefilter rules those out. A process in a nested pid namespace
    // goes on: it may be the init of its namespace, or a child of that init.
    if status & 0x7f == 0
        && lineage == 0
        && level == 0
        && ppid != 1
        && !prefilter::may_contain_process(ppid)
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
    if heads_lineage {
        flags.set(WATCHED | DIRECT);
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
    if lineage != 0 {
        flags.set(WATCHED);
    }
    if watch::process(ppid) || watch::cgroup(&cgroups) {
        flags.set(WATCHED | DIRECT);
    }
    let flags = flags.get();
    let direct = flags & DIRECT != 0;

    // A death by signal is always reported, any other failure only of an interesting process.
    if status & 0x7f == 0 && flags & INTERESTING == 0 {
        ring::increment(&EXITS, EXITS_FILTERED);
        return 0;
    }
    ring::increment(&EXITS, EXITS_WANTED);
    // A main process is the exception to every budget.
    if !heads_lineage && !budget::take(direct, Budget::WatchedExit, Budget::Exit, &cgroups) {
        ring::count_drop(DropClass::ExitThrottled);
        return 0;
    }
    if !direct && !ring::half_free(&URGENT) {
        ring::count_drop(DropClass::ExitUnwatched);
        return 0;
    }

    let signal = sent_signal::last(tgid, status & 0x7f, start_ns);
    let Some(mut entry) = URGENT.reserve::<Exit>(0) else {
        ring::count_drop(if direct { DropClass::ExitWatched } else { DropClass::ExitUnwatched });
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
        (*record).flags = flags & !DIRECT;
        (*record).ns_pid = ns_pid;
        (*record).lineage = lineage;
        (*record).pad = 0;
        field::copy(&raw mut (*record).comm, leader, &task::OFF_TASK_COMM);
        sent_signal::write(&raw mut (*record).signal, signal);
    }
    entry.submit(ring::WAKEUP);
    0
}

/// The wait status of the process. exit_group() and a fatal signal set the group's code; otherwise the leader's code is
/// the group's. Mostly the two are equal, which saves the read of the flags.
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

/// Whether this is the first thread of the process that looks like the last one.
///
/// The kernel counts `signal->live` down before the tracepoint, so several threads that end at once may all read 0. An
/// insertion with `BPF_NOEXIST` is atomic. If it fails for another reason, the exit is reported: a duplicate is better than
/// a loss.
#[inline(always)]
fn is_first(this: u64, leader: u64) -> bool {
    let tgid = u64::from(read::<u32>(this, &task::OFF_TASK_TGID));
    let ended = Ended { start_ns: task::start_ns(leader), tgid };
    ENDED.insert(&ended, &0, u64::from(BPF_NOEXIST)) != Err(EXISTS)
}

/// Flags in memory that the verifier does not track.
///
/// In a register, each flag would double the states that the verifier follows to the end of the program; older kernels
/// refuse that. The accesses are volatile, because the compiler would otherwise move the flags into a register.
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
