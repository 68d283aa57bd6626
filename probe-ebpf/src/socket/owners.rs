//! The owners of the sockets, as they are noted.
//!
//! A process connects or listens in its own context. Later state changes happen in softirq context, where the current
//! process is unrelated. So the owner is noted at the start. An accepted socket has no owner of its own: its owner is that
//! of the listener.

use core::ptr;

use aya_ebpf::{
    macros::map,
    maps::{HashMap, LruHashMap},
};
use probe_abi::{DropClass, PortKey, WATCHED_OWNERS_MAX};

use super::{owner::Owner, unwatched};
use crate::ring;

#[repr(C)]
pub struct Listener {
    pub owner: Owner,
    /// Address of the socket.
    pub socket: u64,
    /// When a full accept queue was last reported.
    pub full_ns: u64,
}

/// The watched process that asked for a connection, by the address of the socket. No other process can take the room of
/// these: the map evicts nothing. What it has no room for is counted, and goes to those of unwatched processes.
#[map]
static WATCHED_OWNERS: HashMap<u64, Owner> = HashMap::with_max_entries(WATCHED_OWNERS_MAX, 0);

/// Listeners by port. Of several listeners on one port, the last.
#[map]
static LISTENERS: LruHashMap<PortKey, Listener> = LruHashMap::with_max_entries(4096, 0);

/// The current process asks for a connection.
#[inline(always)]
pub fn on_connecting(socket: u64) {
    let owner = Owner::typed_current();
    if owner.is_watched() {
        if WATCHED_OWNERS.insert(&socket, &owner, 0).is_ok() {
            // Of an earlier socket at this address, whose close was missed.
            unwatched::remove(socket);
            return;
        }
        ring::count_drop(DropClass::SocketOwner);
    }
    unwatched::insert(socket, &owner);
}

/// The process that asked for the connection of a socket.
pub struct Noted {
    /// Null if there is none.
    owner: *const Owner,
    /// What marks its place among those of unwatched processes; null if it is in `WATCHED_OWNERS`.
    mark: *mut u64,
}

impl Noted {
    #[inline(always)]
    pub fn owner(&self) -> Option<&Owner> {
        // SAFETY: the lookup returned a valid entry. It may be given to another socket, but it is never unmapped.
        unsafe { self.owner.as_ref() }
    }
}

#[inline(always)]
pub fn of(socket: u64) -> Noted {
    let (mark, owner) = unwatched::find(socket);
    if owner.is_null() {
        return Noted { owner: WATCHED_OWNERS.get_ptr(socket).unwrap_or(ptr::null()), mark };
    }
    Noted { owner, mark }
}

/// Removes a closed socket, whose address another one may get soon.
#[inline(always)]
pub fn forget(socket: u64, noted: &Noted) {
    if !noted.mark.is_null() {
        let is_watched = noted.owner().is_some_and(Owner::is_watched);
        // SAFETY: the mark is from the lookup.
        unsafe { unwatched::free(noted.mark) };
        // The daemon copies the connections of a process that it begins to watch.
        if !is_watched {
            return;
        }
    }
    let _ = WATCHED_OWNERS.remove(socket);
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
