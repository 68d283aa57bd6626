//! How many records a second one cgroup may cause about processes nobody watches, and about sockets.
//!
//! A crash loop, or somebody who wants to drown out others, is cut off here, at its own cgroup.

use aya_ebpf::{Global, helpers::bpf_ktime_get_boot_ns, macros::map, maps::LruHashMap};

use crate::cgroup::Cgroups;

/// Records per second, cgroup and hook.
#[unsafe(no_mangle)]
static UNWATCHED_PER_SECOND: Global<u32> = Global::new(50);

const SECOND_NS: u64 = 1_000_000_000;

/// What has a budget of its own.
#[derive(Clone, Copy)]
#[repr(u64)]
pub enum Spender {
    /// Exits of unwatched processes.
    Exit = 0,
    /// Listeners of unwatched processes.
    Listen = 1,
    /// First errors of sockets; a watched service may be one that connects to a thousand places.
    SocketError = 2,
}

#[repr(C)]
struct Key {
    spender: u64,
    v2: u64,
    mem_v1: u64,
}

#[repr(C)]
struct Window {
    /// Start of the second being counted, `CLOCK_BOOTTIME` nanoseconds.
    start_ns: u64,
    /// Records since then.
    spent: u64,
}

/// Least recently used, so that a host with many cgroups forgets the quiet ones.
#[map]
static BUDGETS: LruHashMap<Key, Window> = LruHashMap::with_max_entries(2048, 0);

/// Takes one record from the budget of the unwatched; false if this second's is spent.
#[inline(always)]
pub fn take(spender: Spender, cgroups: &Cgroups) -> bool {
    take_of(spender, cgroups, u64::from(UNWATCHED_PER_SECOND.load()))
}

/// Takes one record from a budget of `limit` a second.
///
/// Two CPUs may count the same cgroup at once and lose a step, so the limit is a soft one.
#[inline(always)]
pub fn take_of(spender: Spender, cgroups: &Cgroups, limit: u64) -> bool {
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if limit == 0 {
        return false;
    }
    let key = Key { spender: spender as u64, v2: cgroups.v2, mem_v1: cgroups.mem_v1 };
    if let Some(window) = BUDGETS.get_ptr_mut(&key) {
        // SAFETY: the lookup returned a valid entry; eviction may hand it to another cgroup, never unmap it.
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
