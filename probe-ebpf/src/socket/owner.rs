//! The process that owns a socket.
//!
//! A process connects or listens in its own context. Later state changes happen in softirq context, where the current
//! process is unrelated. So the owner is noted at the start. An accepted socket has no owner of its own: its owner is that
//! of the listener.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::bpf_ktime_get_boot_ns,
    macros::map,
    maps::{HashMap, LruHashMap, PerCpuArray},
};
use probe_abi::{DropClass, OWNERS_MAX, PortKey, WATCHED_OWNERS_MAX};

use crate::{
    cgroup::{self, Cgroups},
    ring, task, watch,
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

#[repr(C)]
pub struct Listener {
    pub owner: Owner,
    /// Address of the socket.
    pub socket: u64,
    /// When a full accept queue was last reported.
    pub full_ns: u64,
}

/// The watched process that asked for a connection, by the address of the socket. No other process can take the room of
/// these: the map evicts nothing. What it has no room for is counted, and goes to `OWNERS`.
#[map]
static WATCHED_OWNERS: HashMap<u64, Owner> = HashMap::with_max_entries(WATCHED_OWNERS_MAX, 0);

/// The same of unwatched processes: the daemon may begin to watch one while its connections last. If there are more than
/// fit, the map evicts the least recently used ones.
#[map]
static OWNERS: LruHashMap<u64, Owner> = LruHashMap::with_max_entries(OWNERS_MAX, 0);

/// How many entries `OWNERS` would have if it evicted none: those added less those removed, over all CPUs. The kernel does
/// not say what it evicts. What this is above the map's size was evicted.
#[map]
static OWNERS_BALANCE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Listeners by port. Of several listeners on one port, the last.
#[map]
static LISTENERS: LruHashMap<PortKey, Listener> = LruHashMap::with_max_entries(4096, 0);

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
    fn typed_current() -> Self {
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

/// The current process asks for a connection.
#[inline(always)]
pub fn on_connecting(socket: u64) {
    let owner = Owner::typed_current();
    if owner.is_watched() {
        if WATCHED_OWNERS.insert(&socket, &owner, 0).is_ok() {
            // Of an earlier socket at this address, whose close was missed. A lookup takes no lock.
            if OWNERS.get_ptr(socket).is_some() {
                remove_unwatched(socket);
            }
            return;
        }
        ring::count_drop(DropClass::SocketOwner);
    }
    if OWNERS.insert(&socket, &owner, u64::from(BPF_NOEXIST)).is_ok() {
        add_to_balance(1);
    } else {
        let _ = OWNERS.insert(&socket, &owner, 0);
    }
}

#[inline(always)]
fn remove_unwatched(socket: u64) {
    if OWNERS.remove(socket).is_ok() {
        // An entry that was added on one CPU may be removed on another, so that only the sum makes sense.
        add_to_balance(u64::MAX);
    }
}

/// A plain store suffices, as in [`ring::increment`].
#[inline(always)]
fn add_to_balance(count: u64) {
    if let Some(balance) = OWNERS_BALANCE.get_ptr_mut(0) {
        // SAFETY: the lookup returned a valid slot of this CPU.
        unsafe { *balance = (*balance).wrapping_add(count) };
    }
}

/// The process that asked for the connection of a socket, and whether `WATCHED_OWNERS` has it.
#[inline(always)]
pub fn of(socket: u64) -> Option<(*const Owner, bool)> {
    match OWNERS.get_ptr(socket) {
        Some(owner) => Some((owner, false)),
        None => WATCHED_OWNERS.get_ptr(socket).map(|owner| (owner, true)),
    }
}

/// Removes a closed socket, whose address another one may get soon, from the map that has it.
#[inline(always)]
pub fn forget(socket: u64, is_in_watched: bool) {
    if is_in_watched {
        let _ = WATCHED_OWNERS.remove(socket);
    } else {
        remove_unwatched(socket);
    }
}

#[inline(always)]
pub fn add_listener(port: &PortKey, socket: u64, owner: &Owner) {
    // Port 0: the kernel has yet to choose one.
    if port.port != 0 {
        let _ = LISTENERS.insert(port, &Listener { owner: *owner, socket, full_ns: 0 }, 0);
    }
}

#[inline(always)]
pub fn remove_listener(port: &PortKey, socket: u64) {
    if let Some(listener) = LISTENERS.get_ptr(port) {
        // SAFETY: the lookup returned a valid entry.
        if unsafe { (*listener).socket } == socket {
            let _ = LISTENERS.remove(port);
        }
    }
}

#[inline(always)]
pub fn listener(port: &PortKey) -> Option<*mut Listener> {
    LISTENERS.get_ptr_mut(port)
}
