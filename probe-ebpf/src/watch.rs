//! What the daemon asked to hear about.

use aya_ebpf::{macros::map, maps::HashMap};
use probe_abi::{CgroupKey, HIERARCHY_MEMORY_V1, HIERARCHY_UNIFIED, PortKey};

use crate::cgroup::Cgroups;

/// Watched thread group ids. The value is unused.
#[map]
static WATCHED_TGID: HashMap<u32, u32> = HashMap::with_max_entries(4096, 0);

/// Watched cgroups of both hierarchies. The value is unused.
#[map]
static WATCHED_CGROUP: HashMap<CgroupKey, u32> = HashMap::with_max_entries(4096, 0);

/// Local ports that count as watched where nobody saw who listens. The value is unused.
#[map]
static WATCHED_PORT: HashMap<PortKey, u32> = HashMap::with_max_entries(1024, 0);

/// Whether this very process is watched.
#[inline(always)]
pub fn process(tgid: u32) -> bool {
    WATCHED_TGID.get_ptr(tgid).is_some()
}

/// Whether one of its cgroups is watched.
#[inline(always)]
pub fn cgroup(cgroups: &Cgroups) -> bool {
    WATCHED_CGROUP.get_ptr(CgroupKey { hierarchy: HIERARCHY_UNIFIED, id: cgroups.v2 }).is_some()
        || WATCHED_CGROUP.get_ptr(CgroupKey { hierarchy: HIERARCHY_MEMORY_V1, id: cgroups.mem_v1 }).is_some()
}

/// Whether the process, its parent or one of its cgroups is watched.
#[inline(always)]
pub fn any(tgid: u32, ppid: u32, cgroups: &Cgroups) -> bool {
    process(tgid) || process(ppid) || cgroup(cgroups)
}

/// Whether a local port is watched.
#[inline(always)]
pub fn port(port: &PortKey) -> bool {
    WATCHED_PORT.get_ptr(port).is_some()
}
