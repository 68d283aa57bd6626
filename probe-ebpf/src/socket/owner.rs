//! Whose a socket is.
//!
//! A process that connects or listens does so itself, in its own context; what becomes of the socket later is decided in
//! softirq context, where nobody can be asked. Sockets that were accepted have no owner of their own: theirs is the one
//! who listens.

use aya_ebpf::{helpers::bpf_ktime_get_boot_ns, macros::map, maps::LruHashMap};
use probe_abi::PortKey;

use crate::{
    cgroup::{self, Cgroups},
    task, watch,
};

/// A process, as far as it matters to its sockets.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Owner {
    /// Start of the thread group, `CLOCK_BOOTTIME` nanoseconds.
    pub start_ns: u64,
    /// Unified cgroup id.
    pub cgroup_v2: u64,
    /// Id in the v1 memory hierarchy; 0 where memory is on the unified one.
    pub cgroup_mem_v1: u64,
    /// When it asked for the connection, or began to listen, `CLOCK_BOOTTIME` nanoseconds.
    pub since_ns: u64,
    /// Thread group id; 0 if not known.
    pub tgid: u32,
    /// Thread group id of the real parent.
    pub ppid: u32,
}

/// A socket that listens.
#[repr(C)]
pub struct Listener {
    /// Who listens.
    pub owner: Owner,
    /// Address of the socket.
    pub socket: u64,
    /// When its accept queue was last told to be full, `CLOCK_BOOTTIME` nanoseconds.
    pub full_ns: u64,
}

/// Who asked for a connection, by the address of the socket.
///
/// Everybody's, as a process may become a watched one while its connections last.
#[map]
static OWNERS: LruHashMap<u64, Owner> = LruHashMap::with_max_entries(16384, 0);

/// Who listens, by port. Of several listeners on one port, the last.
#[map]
static LISTENERS: LruHashMap<PortKey, Listener> = LruHashMap::with_max_entries(4096, 0);

impl Owner {
    /// Nobody known.
    pub const NOBODY: Self =
        Self { start_ns: 0, cgroup_v2: 0, cgroup_mem_v1: 0, since_ns: 0, tgid: 0, ppid: 0 };

    /// The current process. Only where it is the one that acts on the socket.
    #[inline(always)]
    pub fn current() -> Self {
        let this = task::current_typed();
        let leader = task::typed_leader(this);
        let cgroups = cgroup::of_current(this);
        Self {
            start_ns: task::typed_start_ns(leader),
            cgroup_v2: cgroups.v2,
            cgroup_mem_v1: cgroups.mem_v1,
            // SAFETY: the helper has no preconditions.
            since_ns: unsafe { bpf_ktime_get_boot_ns() },
            tgid: task::typed_tgid(this),
            ppid: task::typed_tgid(task::typed_parent(leader)),
        }
    }

    /// Its place in the hierarchies.
    #[inline(always)]
    pub fn cgroups(&self) -> Cgroups {
        Cgroups { v2: self.cgroup_v2, mem_v1: self.cgroup_mem_v1 }
    }

    /// Whether it, its parent or one of its cgroups is watched.
    #[inline(always)]
    pub fn is_near(&self) -> bool {
        watch::near(self.tgid, self.ppid, &self.cgroups())
    }

    /// Whether it, its family, its parent or one of its cgroups is watched.
    #[inline(always)]
    pub fn is_watched(&self) -> bool {
        watch::any(self.tgid, self.start_ns, self.ppid, &self.cgroups())
    }
}

/// The current process asks for a connection.
#[inline(always)]
pub fn asks(socket: u64) {
    let _ = OWNERS.insert(&socket, &Owner::current(), 0);
}

/// Who asked for the connection of a socket.
#[inline(always)]
pub fn of(socket: u64) -> Option<*const Owner> {
    OWNERS.get_ptr(socket)
}

/// The socket is closed; its address may be another one's soon.
#[inline(always)]
pub fn forget(socket: u64) {
    let _ = OWNERS.remove(socket);
}

/// A process begins to listen.
#[inline(always)]
pub fn listens(port: &PortKey, socket: u64, owner: &Owner) {
    // A port that the kernel has yet to choose.
    if port.port != 0 {
        let _ = LISTENERS.insert(port, &Listener { owner: *owner, socket, full_ns: 0 }, 0);
    }
}

/// A socket listens no more.
#[inline(always)]
pub fn ceases(port: &PortKey, socket: u64) {
    if let Some(listener) = LISTENERS.get_ptr(port) {
        // SAFETY: the lookup returned a valid entry.
        if unsafe { (*listener).socket } == socket {
            let _ = LISTENERS.remove(port);
        }
    }
}

/// Who listens on a port.
#[inline(always)]
pub fn listener(port: &PortKey) -> Option<*mut Listener> {
    LISTENERS.get_ptr_mut(port)
}
