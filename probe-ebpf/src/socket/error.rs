//! Socket errors. The first error of a kind is a record; the program only counts the repeats.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_ktime_get_boot_ns, macros::map, maps::LruPerCpuHashMap};
use probe_abi::{DropClass, ErrorKey, INBOUND, KIND_SOCKET_ERROR, OUTBOUND, PortKey, Repeats, SocketError};

use super::{
    owner::Owner,
    owners, probes,
    sock::{
        self, AF_INET, AF_INET6, OFF_SOCK_ERR, TCP_CLOSE, TCP_CLOSING, TCP_FIN_WAIT1, TCP_FIN_WAIT2,
        TCP_LAST_ACK, TCP_TIME_WAIT,
    },
};
use crate::{
    budget::{self, Budget},
    field::read,
    ring::{self, URGENT},
    watch,
};

const ECONNRESET: u32 = 104;
const IPPROTO_TCP: u16 = 6;

/// States in which this side has sent its FIN. A reset is then a common way to close.
const FINISHED: u64 =
    1 << TCP_FIN_WAIT1 | 1 << TCP_FIN_WAIT2 | 1 << TCP_TIME_WAIT | 1 << TCP_LAST_ACK | 1 << TCP_CLOSING;

/// First errors per second and cgroup.
const PER_SECOND: u64 = 50;

/// Errors after the first of their kind. The daemon removes a kind that was quiet for a while, so that its next error is a
/// record again.
#[map]
static ERRORS: LruPerCpuHashMap<ErrorKey, Repeats> = LruPerCpuHashMap::with_max_entries(2048, 0);

/// What a record of an error holds besides the socket and its owner.
pub struct Failure {
    /// `sk_err`.
    pub errno: u32,
    /// IP protocol number.
    pub protocol: u16,
    /// TCP state before, or 0.
    pub from: u8,
    /// TCP state after, or 0.
    pub to: u8,
    /// [`OUTBOUND`] or [`INBOUND`].
    pub direction: u8,
}

/// A TCP socket closed, with or without an error.
#[inline(always)]
pub fn on_close(socket: u64, from: u32) {
    let errno: u32 = read(socket, &OFF_SOCK_ERR);
    let noted = owners::of(socket);
    if errno != 0 && !(errno == ECONNRESET && FINISHED >> (from & 63) & 1 == 1) {
        on_failure(socket, from, errno, noted.owner());
    }
    if let Some(owner) = noted.owner() {
        if probes::is_prober(owner.tgid) {
            probes::on_close(&sock::port_key(socket, sock::local_port(socket)));
        }
        owners::forget(socket, &noted);
    }
}

#[inline(always)]
fn on_failure(socket: u64, from: u32, errno: u32, noted: Option<&Owner>) {
    let local = sock::port_key(socket, sock::local_port(socket));
    let (owner, direction) = match noted {
        Some(owner) => (*owner, OUTBOUND),
        None => match owners::listener(&local) {
            // SAFETY: the lookup returned a valid entry. The time since which it listens says nothing about the connection.
            Some(listener) => (Owner { since_ns: 0, ..unsafe { (*listener).owner } }, INBOUND),
            None => (Owner::UNKNOWN, INBOUND),
        },
    };
    // The listening process may not be the serving one: systemd listens for services that it starts on demand.
    let watched = owner.is_watched() || (direction == INBOUND && watch::port(&local));
    if !watched || probes::is_prober(owner.tgid) {
        return;
    }
    let remote = PortKey { netns: local.netns, port: u32::from(sock::remote_port(socket)) };
    if direction == INBOUND && probes::is_probe(&remote) {
        return;
    }
    let failure = Failure { errno, protocol: IPPROTO_TCP, from: from as u8, to: TCP_CLOSE as u8, direction };
    submit_or_count(socket, &owner, &local, &failure);
}

/// Submits a record of the first error of a kind, and counts a repeat.
#[inline(always)]
pub fn submit_or_count(socket: u64, owner: &Owner, local: &PortKey, failure: &Failure) {
    let family = sock::family(socket);
    if family != AF_INET && family != AF_INET6 {
        return;
    }
    let remote_port = sock::remote_port(socket);
    let mut key = ErrorKey {
        addr: [0; 16],
        owner: if owner.tgid == 0 { owner.cgroup_v2 as u32 } else { owner.tgid },
        port: if failure.direction == OUTBOUND { remote_port } else { local.port as u16 },
        family,
        errno: failure.errno as u16,
        protocol: failure.protocol,
        from: failure.from,
        to: failure.to,
        direction: failure.direction,
        pad: 0,
    };
    // SAFETY: the key is on this program's stack.
    unsafe { sock::write_remote(&raw mut key.addr, socket, family) };
    if count_repeat(&key) {
        return;
    }
    if !budget::take_of(Budget::SocketError, &owner.cgroups(), PER_SECOND) {
        ring::count_drop(DropClass::SocketErrorThrottled);
        return;
    }
    // Exits have precedence.
    if !ring::half_free(&URGENT) {
        ring::count_drop(DropClass::SocketError);
        return;
    }
    let none = Repeats { count: 0, last_ns: 0 };
    // Another CPU may have inserted the kind meanwhile.
    if ERRORS.insert(&key, &none, u64::from(BPF_NOEXIST)).is_err() && count_repeat(&key) {
        return;
    }
    let Some(mut entry) = URGENT.reserve::<SocketError>(0) else {
        ring::count_drop(DropClass::SocketError);
        let _ = ERRORS.remove(&key);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is the size of a `SocketError`; every field is written.
    unsafe {
        ring::write_header(record, KIND_SOCKET_ERROR);
        (*record).key = key;
        (*record).start_ns = owner.start_ns;
        (*record).cgroup_v2 = owner.cgroup_v2;
        (*record).cgroup_mem_v1 = owner.cgroup_mem_v1;
        (*record).since_ns = owner.since_ns;
        sock::write_local(&raw mut (*record).local_addr, socket, family);
        (*record).tgid = owner.tgid;
        (*record).netns = local.netns;
        (*record).local_port = local.port as u16;
        (*record).remote_port = remote_port;
        (*record).ppid = owner.ppid;
    }
    entry.submit(ring::WAKEUP);
}

/// Counts an error whose kind was reported before; false if it is the first.
#[inline(always)]
fn count_repeat(key: &ErrorKey) -> bool {
    let Some(repeats) = ERRORS.get_ptr_mut(key) else { return false };
    // SAFETY: the lookup returned a valid slot of this CPU; the helper has no preconditions.
    unsafe {
        (*repeats).count += 1;
        (*repeats).last_ns = bpf_ktime_get_boot_ns();
    }
    true
}
