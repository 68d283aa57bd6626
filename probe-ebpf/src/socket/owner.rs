//! The process that owns a socket.

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;

use crate::{
    cgroup::{self, Cgroups},
    task, watch,
};

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Owner {
    pub start_ns: u64,
    pub cgroup_v2: u64,
    pub cgroup_mem_v1: u64,
    /// When it asked for the connection, or began to listen.
    pub since_ns: u64,
    /// 0 if not known.
    pub tgid: u32,
    pub ppid: u32,
}

impl Owner {
    pub const UNKNOWN: Self =
        Self { start_ns: 0, cgroup_v2: 0, cgroup_mem_v1: 0, since_ns: 0, tgid: 0, ppid: 0 };

    /// The current process. For use only where that process acts on the socket.
    #[inline(always)]
    pub fn current() -> Self {
        let this = task::current();
        let leader = task::leader(this);
        let (tgid, ppid) = (task::current_tgid(this), task::tgid(task::parent(leader)));
        Self::new(tgid, ppid, task::start_ns(leader), cgroup::of_current(this))
    }

    /// [`Self::current`], by typed reads.
    #[inline(always)]
    pub fn typed_current() -> Self {
        let this = task::current_typed();
        let leader = task::typed_leader(this);
        let (tgid, ppid) = (task::typed_tgid(this), task::typed_tgid(task::typed_parent(leader)));
        Self::new(tgid, ppid, task::typed_start_ns(leader), cgroup::typed_of_current(this))
    }

    #[inline(always)]
    fn new(tgid: u32, ppid: u32, start_ns: u64, cgroups: Cgroups) -> Self {
        // SAFETY: the helper has no preconditions.
        let since_ns = unsafe { bpf_ktime_get_boot_ns() };
        Self { start_ns, cgroup_v2: cgroups.v2, cgroup_mem_v1: cgroups.mem_v1, since_ns, tgid, ppid }
    }

    #[inline(always)]
    pub fn cgroups(&self) -> Cgroups {
        Cgroups { v2: self.cgroup_v2, mem_v1: self.cgroup_mem_v1 }
    }

    #[inline(always)]
    pub fn is_watched_directly(&self) -> bool {
        watch::is_watched_directly(self.tgid, self.ppid, &self.cgroups())
    }

    #[inline(always)]
    pub fn is_watched(&self) -> bool {
        watch::is_watched(self.tgid, self.start_ns, self.ppid, &self.cgroups())
    }
}
