//! `inet_sock_set_state`: a service started to listen, or its listener went.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext};
use aya_log_ebpf::debug;
use probe_abi::{DropClass, KIND_LISTEN, Listen};

use crate::{
    budget::{self, Spender},
    cgroup,
    field::{self, offsets, read},
    ring::{self, URGENT},
    task, watch,
};

offsets! {
    /// `sock_common.skc_family`
    OFF_SOCK_FAMILY;
    /// `sock_common.skc_num`, host byte order
    OFF_SOCK_NUM;
    /// `sock_common.skc_rcv_saddr`
    OFF_SOCK_RCV_SADDR;
    /// `sock_common.skc_v6_rcv_saddr`, absent without IPv6
    OFF_SOCK_V6_RCV_SADDR;
    /// `inet_sock.inet_sport`, network byte order
    OFF_INET_SPORT;
}

const TCP_CLOSE: u32 = 7;
const TCP_LISTEN: u32 = 10;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Program for the raw tracepoint `inet_sock_set_state(sock, int oldstate, int newstate)`.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    let from = ctx.arg::<u64>(1) as u32;
    let to = ctx.arg::<u64>(2) as u32;
    let up = match (from, to) {
        (TCP_CLOSE, TCP_LISTEN) => 1,
        (TCP_LISTEN, TCP_CLOSE) => 0,
        _ => return 0,
    };
    let socket = ctx.arg::<u64>(0);
    let family: u16 = read(socket, &OFF_SOCK_FAMILY);
    // The source port outlives a close; the bound number is there even before the first packet.
    let port = match read::<u16>(socket, &OFF_INET_SPORT) {
        0 => read(socket, &OFF_SOCK_NUM),
        port => u16::from_be(port),
    };
    let this = task::current();
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let leader = task::leader(this);
    let cgroups = cgroup::of(this);
    debug!(&ctx, "listener on port {} up {} by {}", port, up, tgid);

    if !watch::any(tgid, task::tgid(task::parent(leader)), &cgroups) {
        if !budget::take(Spender::Listen, &cgroups) {
            ring::count_drop(DropClass::ListenThrottled);
            return 0;
        }
        if !ring::half_free(&URGENT) {
            ring::count_drop(DropClass::Listen);
            return 0;
        }
    }
    let Some(mut entry) = URGENT.reserve::<Listen>(0) else {
        ring::count_drop(DropClass::Listen);
        return 0;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is the size of a `Listen`; every field is written.
    unsafe {
        ring::write_header(record, KIND_LISTEN);
        (*record).start_ns = task::start_ns(leader);
        (*record).cgroup_v2 = cgroups.v2;
        (*record).cgroup_mem_v1 = cgroups.mem_v1;
        (*record).tgid = tgid;
        (*record).up = up;
        (*record).family = family;
        (*record).port = port;
        (*record).pad = 0;
        (*record).addr = [0; 16];
        if family == AF_INET6 {
            field::copy(&raw mut (*record).addr, socket, &OFF_SOCK_V6_RCV_SADDR);
        } else if family == AF_INET {
            field::copy((&raw mut (*record).addr).cast::<[u8; 4]>(), socket, &OFF_SOCK_RCV_SADDR);
        }
        task::copy_current_comm(&raw mut (*record).comm);
    }
    entry.submit(ring::WAKE);
    0
}
