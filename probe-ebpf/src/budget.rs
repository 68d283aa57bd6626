//! How many records a second one cgroup may cause: of unwatched processes, and of socket errors. How many a second there
//! may be of the host's faults.
//!
//! A crash loop or a hostile workload is throttled here, in its own cgroup, so that it cannot displace the records of
//! others.

use aya_ebpf::{Global, helpers::bpf_ktime_get_boot_ns, macros::map, maps::LruHashMap};

use crate::cgroup::Cgroups;

/// Records of unwatched processes per second, cgroup and hook.
#[unsafe(no_mangle)]
static UNWATCHED_PER_SECOND: Global<u32> = Global::new(50);

const SECOND_NS: u64 = 1_000_000_000;

/// The budgets that each cgroup has.
#[derive(Clone, Copy)]
#[repr(u64)]
pub enum Budget {
    /// Exits of unwatched processes.
    Exit = 0,
    /// Listeners of unwatched processes.
    Listen = 1,
    /// First errors of sockets, of watched processes too: a service may connect to a thousand peers.
    SocketError = 2,
    /// Exits of a service's processes, but for its main one: a service makes as many as it likes.
    WatchedExit = 3,
    /// Listeners of a service's processes.
    WatchedListen = 4,
    /// Signals to a watched process that stop it, or end it with a core dump. Its user sends as many as it likes.
    Signal = 5,
    /// First faults of the host of their kind: thousands of tasks may hang at once, each of another name.
    HostFault = 6,
}

/// Records of a service's processes per second, cgroup and hook. When a database has crashed, it ends the processes of
/// all its clients at once.
const WATCHED_PER_SECOND: u64 = 500;

/// Such signals per second and process.
const SIGNALS_PER_SECOND: u64 = 20;

/// First faults of their kind per second and hook.
const FAULTS_PER_SECOND: u64 = 20;

#[repr(C)]
struct Key {
    budget: u64,
    v2: u64,
    mem_v1: u64,
}

#[repr(C)]
struct Window {
    /// Start of the second that is counted, `CLOCK_BOOTTIME` nanoseconds.
    start_ns: u64,
    /// Records since then.
    spent: u64,
}

/// An LRU map, so that a host with many cgroups forgets the quiet ones.
#[map]
static BUDGETS: LruHashMap<Key, Window> = LruHashMap::with_max_entries(2048, 0);

/// Takes one record from the budget of watched or of unwatched processes; false if this second's budget is spent.
#[inline(always)]
pub fn take(watched: bool, of_watched: Budget, of_unwatched: Budget, cgroups: &Cgroups) -> bool {
    // One call: two would double what the verifier follows.
    let (budget, limit) = if watched {
        (of_watched, WATCHED_PER_SECOND)
    } else {
        (of_unwatched, u64::from(UNWATCHED_PER_SECOND.load()))
    };
    take_of(budget, cgroups, limit)
}

/// Takes one signal to a process.
#[inline(always)]
pub fn take_signal(tgid: u32) -> bool {
    take_of(Budget::Signal, &Cgroups { v2: u64::from(tgid), mem_v1: 0 }, SIGNALS_PER_SECOND)
}

/// Takes one fault of the host, whose hook has the number `fault`.
#[inline(always)]
pub fn take_fault(fault: u32) -> bool {
    take_of(Budget::HostFault, &Cgroups { v2: u64::from(fault), mem_v1: 0 }, FAULTS_PER_SECOND)
}

/// Takes one record from a budget of `limit` a second.
///
/// Two CPUs that count the same cgroup at once may lose a step, so the limit is soft.
#[inline(always)]
pub fn take_of(budget: Budget, cgroups: &Cgroups, limit: u64) -> bool {
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if limit == 0 {
        return false;
    }
    let key = Key { budget: budget as u64, v2: cgroups.v2, mem_v1: cgroups.mem_v1 };
    if let Some(window) = BUDGETS.get_ptr_mut(&key) {
        // SAFETY: the lookup returned a valid entry; an eviction may give it to another cgroup, never unmap it.
        unsafe {
            if now.wrapping_sub((*window).start_ns) < SECOND_NS {
                if (*window).spent >= limit {
                    return false;
                }
                (*window).spent += 1;
            } else {
                (*window).start_ns = now;
                (*window).spent = 1;
            }
        }
        return true;
    }
    let _ = BUDGETS.insert(&key, &Window { start_ns: now, spent: 1 }, 0);
    true
}
