//! What the daemon watches: processes, their lineages, cgroups and ports.

use aya_ebpf::{macros::map, maps::HashMap};
use probe_abi::{
    CgroupKey, DESCENDANTS_MAX, Descendant, DropClass, HIERARCHY_MEMORY_V1, HIERARCHY_UNIFIED, PortKey,
    START_UNIT_NS,
};

use crate::{cgroup::Cgroups, prefilter, ring};

/// Watched thread group ids, each with the number of the lineage that it heads.
///
/// The exit program removes a process, so that the next process with its id is not mistaken for it.
#[map]
static WATCHED_TGID: HashMap<u32, u32> = HashMap::with_max_entries(4096, 0);

/// The living descendants of watched processes, orphans too. If more live than fit, the later ones are counted and are known
/// by their parents and cgroups only: a crowd that one service starts does not displace the workers of another.
#[map]
static DESCENDANTS: HashMap<u32, Descendant> = HashMap::with_max_entries(DESCENDANTS_MAX, 0);

/// Watched cgroups of both hierarchies. The value is unused.
#[map]
static WATCHED_CGROUP: HashMap<CgroupKey, u32> = HashMap::with_max_entries(4096, 0);

/// Watched local ports. They count where the listener's owner is unknown or another process. The value is unused.
#[map]
static WATCHED_PORT: HashMap<PortKey, u32> = HashMap::with_max_entries(1024, 0);

/// Whether the process itself is watched.
#[inline(always)]
pub fn process(tgid: u32) -> bool {
    prefilter::may_contain_process(tgid) && WATCHED_TGID.get_ptr(tgid).is_some()
}

/// How a process belongs to a lineage.
pub struct Membership {
    /// The lineage that it heads, because it is watched itself; else 0.
    pub headed: u32,
    /// The lineage that it belongs to: the one it heads, else the one it was born into; 0 for none.
    pub lineage: u32,
}

/// The membership of a process. The closure reads its start, which is needed for a descendant only.
#[inline(always)]
pub fn membership(tgid: u32, start_ns: impl FnOnce() -> u64) -> Membership {
    if !prefilter::may_contain_process(tgid) {
        return Membership { headed: 0, lineage: 0 };
    }
    match headed(tgid) {
        0 => Membership { headed: 0, lineage: inherited(tgid, start_ns) },
        headed => Membership { headed, lineage: headed },
    }
}

#[inline(always)]
fn headed(tgid: u32) -> u32 {
    match WATCHED_TGID.get_ptr(tgid) {
        // SAFETY: the lookup returned a valid entry.
        Some(lineage) => unsafe { *lineage },
        None => 0,
    }
}

#[inline(always)]
fn inherited(tgid: u32, start_ns: impl FnOnce() -> u64) -> u32 {
    let Some(entry) = DESCENDANTS.get_ptr(tgid) else { return 0 };
    // SAFETY: the lookup returned a valid entry.
    unsafe { if (*entry).start == start_ns() / START_UNIT_NS { (*entry).lineage } else { 0 } }
}

#[inline(always)]
pub fn add_descendant(tgid: u32, start_ns: u64, lineage: u32) {
    let descendant = Descendant { start: start_ns / START_UNIT_NS, lineage, pad: 0 };
    if DESCENDANTS.insert(&tgid, &descendant, 0).is_err() {
        ring::count_drop(DropClass::Descendant);
        return;
    }
    prefilter::note_birth(tgid);
}

/// Removes a process that ended and belonged to a lineage.
#[inline(always)]
pub fn remove(tgid: u32, heads_lineage: bool) {
    if heads_lineage {
        let _ = WATCHED_TGID.remove(tgid);
    }
    let _ = DESCENDANTS.remove(tgid);
}

/// Whether one of the cgroups is watched.
#[inline(always)]
pub fn cgroup(cgroups: &Cgroups) -> bool {
    (prefilter::may_contain_cgroup_v2(cgroups.v2)
        && WATCHED_CGROUP.get_ptr(CgroupKey { hierarchy: HIERARCHY_UNIFIED, id: cgroups.v2 }).is_some())
        || (prefilter::may_contain_cgroup_mem_v1(cgroups.mem_v1)
            && WATCHED_CGROUP
                .get_ptr(CgroupKey { hierarchy: HIERARCHY_MEMORY_V1, id: cgroups.mem_v1 })
                .is_some())
}

/// Whether the process, its parent or one of its cgroups is watched.
///
/// A process that only its lineage makes watched is not: below a login service, that is everything its users run. The
/// programs report such a process, but within the limits for unwatched ones.
#[inline(always)]
pub fn is_watched_directly(tgid: u32, ppid: u32, cgroups: &Cgroups) -> bool {
    process(tgid) || process(ppid) || cgroup(cgroups)
}

/// Whether the process, its lineage, its parent or one of its cgroups is watched.
#[inline(always)]
pub fn is_watched(tgid: u32, start_ns: u64, ppid: u32, cgroups: &Cgroups) -> bool {
    membership(tgid, || start_ns).lineage != 0 || process(ppid) || cgroup(cgroups)
}

#[inline(always)]
pub fn port(port: &PortKey) -> bool {
    WATCHED_PORT.get_ptr(port).is_some()
}
