//! Connections of watched processes. Each pair of process and peer is reported once, so that a busy service costs no more
//! records than an idle one.

use aya_ebpf::{macros::map, maps::LruHashMap};
use probe_abi::{Connect, DropClass, KIND_CONNECT, PeerKey};

use super::{owners, probes, sock};
use crate::ring::{self, BULK};

/// The reported connections, each with the start of its process: the kernel may give the id to another process later.
#[map]
static CONNECTED: LruHashMap<PeerKey, u64> = LruHashMap::with_max_entries(4096, 0);

/// A connection that a process of this host asked for is established.
#[inline(always)]
pub fn on_connected(socket: u64) {
    let noted = owners::of(socket);
    let Some(owner) = noted.owner() else { return };
    let owner = *owner;
    if probes::is_prober(owner.tgid) {
        probes::on_open(&sock::port_key(socket, sock::local_port(socket)));
        return;
    }
    if !owner.is_watched() {
        return;
    }
    let key = sock::peer(socket, owner.tgid);
    if let Some(reported) = CONNECTED.get_ptr(&key) {
        // SAFETY: the lookup returned a valid entry.
        if unsafe { *reported } == owner.start_ns {
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
        (*record).netns = sock::netns(socket);
        (*record).ppid = owner.ppid;
    }
    entry.submit(ring::NO_WAKEUP);
    let _ = CONNECTED.insert(&key, &owner.start_ns, 0);
}
