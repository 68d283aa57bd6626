//! The cgroups of a task.

use aya_ebpf::{Global, helpers::bpf_get_current_cgroup_id};
use probe_abi::LIMIT_LEVELS;

use crate::{
    field::{offsets, pointer, read, typed},
    prefilter,
};

offsets! {
    /// `task_struct.cgroups`
    OFF_TASK_CGROUPS;
    /// `css_set.dfl_cgrp`
    OFF_CSS_SET_DFL_CGRP;
    /// `css_set.subsys[memory_cgrp_id]`
    OFF_CSS_SET_MEMORY;
    /// `cgroup_subsys_state.cgroup`
    OFF_CSS_CGROUP;
    /// `cgroup_subsys_state.parent`
    OFF_CSS_PARENT;
    /// `mem_cgroup.memory.max`; a `mem_cgroup` begins with its `cgroup_subsys_state`
    OFF_MEM_CGROUP_MAX;
    /// `cgroup.kn`
    OFF_CGROUP_KN;
    /// `cgroup.root`
    OFF_CGROUP_ROOT;
    /// `cgroup_root.hierarchy_id`
    OFF_ROOT_HIERARCHY_ID;
    /// `kernfs_node.id`
    OFF_KERNFS_NODE_ID;
}

/// 1 where the memory controller has a v1 hierarchy of its own. Elsewhere its groups are those of v2, or above them.
#[unsafe(no_mangle)]
static HAS_MEMORY_V1: Global<u32> = Global::new(0);

/// The ids of a task's cgroups in the two hierarchies that the daemon watches.
#[derive(Clone, Copy)]
pub struct Cgroups {
    pub v2: u64,
    /// 0 where there is no v1 memory hierarchy.
    pub mem_v1: u64,
}

/// Reads both ids; one that cannot be read is 0.
#[inline(always)]
pub fn of(task: u64) -> Cgroups {
    let v2 = id(pointer(pointer(task, &OFF_TASK_CGROUPS), &OFF_CSS_SET_DFL_CGRP));
    Cgroups { v2, mem_v1: if has_memory_v1() { memory_v1(task) } else { 0 } }
}

/// [`of`] the current task. A helper returns the first id without a read.
#[inline(always)]
pub fn of_current(current: u64) -> Cgroups {
    // SAFETY: the helper has no preconditions.
    let v2 = unsafe { bpf_get_current_cgroup_id() };
    Cgroups { v2, mem_v1: if has_memory_v1() { memory_v1(current) } else { 0 } }
}

/// [`of_current`], by typed reads.
#[inline(always)]
pub fn typed_of_current(current: u64) -> Cgroups {
    // SAFETY: the helper has no preconditions.
    let v2 = unsafe { bpf_get_current_cgroup_id() };
    Cgroups { v2, mem_v1: if has_memory_v1() { typed_memory_v1(current) } else { 0 } }
}

/// Whether one of the current task's cgroups may be watched. Cheaper than [`of_current`] and a lookup, but it may say
/// yes where no cgroup is watched.
#[inline(always)]
pub fn current_may_be_watched(current: u64) -> bool {
    // SAFETY: the helper has no preconditions.
    (prefilter::any_v2() && prefilter::may_contain_cgroup_v2(unsafe { bpf_get_current_cgroup_id() }))
        || (has_memory_v1()
            && prefilter::any_mem_v1()
            && prefilter::may_contain_cgroup_mem_v1(memory_v1(current)))
}

/// No branch to the verifier: the global is frozen.
#[inline(always)]
fn has_memory_v1() -> bool {
    HAS_MEMORY_V1.load() != 0
}

/// The id of the memory controller's cgroup.
#[inline(always)]
fn memory_v1(task: u64) -> u64 {
    let state = pointer(pointer(task, &OFF_TASK_CGROUPS), &OFF_CSS_SET_MEMORY);
    id(pointer(state, &OFF_CSS_CGROUP))
}

/// [`memory_v1`], by typed reads.
#[inline(always)]
fn typed_memory_v1(task: u64) -> u64 {
    let state: u64 = typed(typed(task, &OFF_TASK_CGROUPS), &OFF_CSS_SET_MEMORY);
    typed(typed(typed(state, &OFF_CSS_CGROUP), &OFF_CGROUP_KN), &OFF_KERNFS_NODE_ID)
}

/// Writes the limits of a task's memory cgroup and of those above it, in pages; 0 past the root.
///
/// The daemon finds the lowest of them: each comparison here would double the verifier's work.
///
/// # Safety
/// `to` must be memory of this program.
#[inline(always)]
pub unsafe fn write_limits(task: u64, to: *mut [u64; LIMIT_LEVELS]) {
    let mut group = pointer(pointer(task, &OFF_TASK_CGROUPS), &OFF_CSS_SET_MEMORY);
    for level in 0..LIMIT_LEVELS {
        // SAFETY: the caller guarantees `to`, and `level` is within it.
        unsafe { (*to)[level] = read(group, &OFF_MEM_CGROUP_MAX) };
        group = pointer(group, &OFF_CSS_PARENT);
    }
}

/// The number of a cgroup's hierarchy; 0 is the unified one.
#[inline(always)]
pub fn hierarchy(cgroup: u64) -> u32 {
    read(pointer(cgroup, &OFF_CGROUP_ROOT), &OFF_ROOT_HIERARCHY_ID)
}

/// A cgroup's id in its hierarchy; 0 if it cannot be read.
#[inline(always)]
pub fn id(cgroup: u64) -> u64 {
    read(pointer(cgroup, &OFF_CGROUP_KN), &OFF_KERNFS_NODE_ID)
}
