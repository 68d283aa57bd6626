//! What the daemon asked to hear about.

use aya_ebpf::{
    macros::map,
    maps::{HashMap, LruHashMap},
};
use probe_abi::{
    CgroupKey, FAMILIES_MAX, HIERARCHY_MEMORY_V1, HIERARCHY_UNIFIED, Kin, PortKey, START_UNIT_NS,
};

use crate::{cgroup::Cgroups, known};

/// Watched thread group ids, each with the number of the family it heads.
///
/// The exit takes a process out, so that who gets its id next is not taken for it.
#[map]
static WATCHED_TGID: HashMap<u32, u32> = HashMap::with_max_entries(4096, 0);

/// The living descendants of watched processes, whoever their parents are by now. Should there be more than fit, those
/// that were heard of least recently are known by their parents and cgroups alone.
#[map]
static FAMILIES: LruHashMap<u32, Kin> = LruHashMap::with_max_entries(FAMILIES_MAX, 0);

/// Watched cgroups of both hierarchies. The value is unused.
#[map]
static WATCHED_CGROUP: HashMap<CgroupKey, u32> = HashMap::with_max_entries(4096, 0);

/// Local ports that count as watched where nobody saw who listens. The value is unused.
#[map]
static WATCHED_PORT: HashMap<PortKey, u32> = HashMap::with_max_entries(1024, 0);

/// Whether this very process is watched.
#[inline(always)]
pub fn process(tgid: u32) -> bool {
    known::process(tgid) && WATCHED_TGID.get_ptr(tgid).is_some()
}

/// What a process has to do with families.
pub struct Ties {
    /// The number of the family that it heads, as it is watched itself; else 0.
    pub headed: u32,
    /// The family that it belongs to: the one it heads, else the one that it was born into; 0 for none.
    pub family: u32,
}

/// The families of a process. Its start is asked for only if one with its id was born into one.
#[inline(always)]
pub fn ties(tgid: u32, start_ns: impl FnOnce() -> u64) -> Ties {
    if !known::process(tgid) {
        return Ties { headed: 0, family: 0 };
    }
    match headed(tgid) {
        0 => Ties { headed: 0, family: born(tgid, start_ns) },
        headed => Ties { headed, family: headed },
    }
}

#[inline(always)]
fn headed(tgid: u32) -> u32 {
    match WATCHED_TGID.get_ptr(tgid) {
        // SAFETY: the lookup returned a valid entry.
        Some(family) => unsafe { *family },
        None => 0,
    }
}

#[inline(always)]
fn born(tgid: u32, start_ns: impl FnOnce() -> u64) -> u32 {
    let Some(kin) = FAMILIES.get_ptr(tgid) else { return 0 };
    // SAFETY: the lookup returned a valid entry.
    unsafe { if (*kin).start == start_ns() / START_UNIT_NS { (*kin).family } else { 0 } }
}

/// A process was born into a family.
#[inline(always)]
pub fn add(tgid: u32, start_ns: u64, family: u32) {
    let kin = Kin { start: start_ns / START_UNIT_NS, family, pad: 0 };
    known::born(tgid);
    let _ = FAMILIES.insert(&tgid, &kin, 0);
}

/// A process of a family has ended, maybe one that `heads` a family.
#[inline(always)]
pub fn forget(tgid: u32, heads: bool) {
    if heads {
        let _ = WATCHED_TGID.remove(tgid);
    }
    let _ = FAMILIES.remove(tgid);
}

/// Whether one of its cgroups is watched.
#[inline(always)]
pub fn cgroup(cgroups: &Cgroups) -> bool {
    (known::cgroup_v2(cgroups.v2)
        && WATCHED_CGROUP.get_ptr(CgroupKey { hierarchy: HIERARCHY_UNIFIED, id: cgroups.v2 }).is_some())
        || (known::cgroup_mem_v1(cgroups.mem_v1)
            && WATCHED_CGROUP
                .get_ptr(CgroupKey { hierarchy: HIERARCHY_MEMORY_V1, id: cgroups.mem_v1 })
                .is_some())
}

/// Whether the process, its parent or one of its cgroups is watched.
///
/// Who is not near, but of a family, may be anybody's: below a login service, all that people run. So it is told of, but
/// has no more room than strangers have.
#[inline(always)]
pub fn near(tgid: u32, ppid: u32, cgroups: &Cgroups) -> bool {
    process(tgid) || process(ppid) || cgroup(cgroups)
}

/// Whether the process, its family, its parent or one of its cgroups is watched.
#[inline(always)]
pub fn any(tgid: u32, start_ns: u64, ppid: u32, cgroups: &Cgroups) -> bool {
    ties(tgid, || start_ns).family != 0 || process(ppid) || cgroup(cgroups)
}

/// Whether a local port is watched.
#[inline(always)]
pub fn port(port: &PortKey) -> bool {
    WATCHED_PORT.get_ptr(port).is_some()
}
