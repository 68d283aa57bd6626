//! Full accept queues: the process of the listener does not keep up, or hangs.
//!
//! No dependable tracepoint shows that the kernel drops the next connection. So the program reads the queue's length whenever
//! a connection joins it.

use aya_ebpf::{Global, helpers::bpf_ktime_get_boot_ns};
use probe_abi::{AcceptQueue, DropClass, KIND_ACCEPT_QUEUE};

use super::{owners, sock};
use crate::{
    field::{offsets, read},
    ring::{self, URGENT},
    watch,
};

offsets! {
    /// `sock.sk_ack_backlog`
    OFF_SOCK_ACK_BACKLOG;
    /// `sock.sk_max_ack_backlog`
    OFF_SOCK_MAX_ACK_BACKLOG;
}

/// A full queue is reported at most this often.
const INTERVAL_NS: u64 = 1_000_000_000;

/// An inbound connection is established and waits for `accept`.
#[inline(always)]
pub fn on_established(socket: u64) {
    let port = sock::local_port(socket);
    let key = sock::port_key(socket, port);
    let Some(listener) = owners::listener(&key) else { return };
    // An inbound socket has no owner of its own. An entry here is of an earlier socket at the same address, whose close was
    // missed: the kernel does not run a program on a CPU that is already running it.
    let noted = owners::of(socket);
    if noted.owner().is_some() {
        owners::forget(socket, &noted);
    }
    // SAFETY: the lookup returned a valid entry; an eviction may give it to another listener, never unmap it.
    let (owner, listening) = unsafe { ((*listener).owner, (*listener).socket) };
    let (waiting, backlog) = pair(listening, &OFF_SOCK_ACK_BACKLOG, &OFF_SOCK_MAX_ACK_BACKLOG);
    // The kernel lets one more than the backlog wait.
    if waiting <= backlog || !(owner.is_watched() || watch::port(&key)) {
        return;
    }
    // SAFETY: as above; the helper has no preconditions.
    unsafe {
        let now = bpf_ktime_get_boot_ns();
        if now.wrapping_sub((*listener).full_ns) < INTERVAL_NS {
            return;
        }
        (*listener).full_ns = now;
    }
    if !ring::half_free(&URGENT) {
        ring::count_drop(DropClass::AcceptQueue);
        return;
    }
    let Some(mut entry) = URGENT.reserve::<AcceptQueue>(0) else {
        ring::count_drop(DropClass::AcceptQueue);
        return;
    };
    let record = entry.as_mut_ptr();
    let family = sock::family(listening);
    // SAFETY: the reservation is the size of an `AcceptQueue`; every field is written.
    unsafe {
        ring::write_header(record, KIND_ACCEPT_QUEUE);
        (*record).start_ns = owner.start_ns;
        (*record).cgroup_v2 = owner.cgroup_v2;
        (*record).cgroup_mem_v1 = owner.cgroup_mem_v1;
        sock::write_local(&raw mut (*record).addr, listening, family);
        (*record).tgid = owner.tgid;
        (*record).waiting = waiting;
        (*record).backlog = backlog;
        (*record).netns = key.netns;
        (*record).family = family;
        (*record).port = port;
        (*record).ppid = owner.ppid;
    }
    entry.submit(ring::WAKEUP);
}

/// Two fields, in one read where they are adjacent.
#[inline(always)]
fn pair(socket: u64, first: &Global<u32>, second: &Global<u32>) -> (u32, u32) {
    // No branch for the verifier: the globals are frozen.
    if first.load().wrapping_add(4) == second.load() {
        let both: u64 = read(socket, first);
        let (low, high) = (both as u32, (both >> 32) as u32);
        return if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
    }
    (read(socket, first), read(socket, second))
}
