//! Who connects to whom. Each pair is told once, so that a busy service costs no more records than an idle one.

use aya_ebpf::{macros::map, maps::LruHashMap};
use probe_abi::{Connect, DropClass, KIND_CONNECT, PeerKey};

use super::{netns, owner, port_key, probes};
use crate::ring::{self, BULK};

/// The connections that were told, with the start of their process, as its id may be another one's later.
#[map]
static CONNECTED: LruHashMap<PeerKey, u64> = LruHashMap::with_max_entries(4096, 0);

/// A connection that was asked for on this host is there.
#[inline(always)]
pub fn connected(socket: u64) {
    let Some(owner) = owner::of(socket) else { return };
    // SAFETY: the lookup returned a valid entry.
    let owner = unsafe { *owner };
    if probes::by(owner.tgid) {
        probes::opened(&port_key(socket, super::local_port(socket)));
        return;
    }
    if !owner.is_watched() {
        return;
    }
    let key = peer(socket, owner.tgid);
    if let Some(told) = CONNECTED.get_ptr(&key) {
        // SAFETY: the lookup returned a valid entry.
        if unsafe { *told } == owner.start_ns {
            return;
        }
    }
    if !ring::half_free(&BULK) {
        ring::count_drop(DropClass::Connect);
        return;
    }
    let Some(mut entry) = BULK.reserve::<Connect>(0) else {
        ring::count_drop(DropClass::Connect);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is the size of a `Connect`; every field is written.
    unsafe {
        ring::write_header(record, KIND_CONNECT);
        (*record).peer = key;
        (*record).start_ns = owner.start_ns;
        (*record).cgroup_v2 = owner.cgroup_v2;
        (*record).cgroup_mem_v1 = owner.cgroup_mem_v1;
        (*record).netns = netns(socket);
        (*record).ppid = owner.ppid;
    }
    entry.submit(ring::SILENT);
    let _ = CONNECTED.insert(&key, &owner.start_ns, 0);
}

/// The other side of a socket, as a process sees it.
#[inline(always)]
pub fn peer(socket: u64, tgid: u32) -> PeerKey {
    let family = super::family(socket);
    let mut key = PeerKey { addr: [0; 16], tgid, port: super::remote_port(socket), family };
    // SAFETY: the key is on this program's stack.
    unsafe { super::write_remote(&raw mut key.addr, socket, family) };
    key
}
