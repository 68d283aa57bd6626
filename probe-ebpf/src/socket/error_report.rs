//! `inet_sk_error_report`: errors of sockets without states, such as UDP.
//!
//! For TCP it would repeat what the state change says, and report local aborts as resets by the remote side. No hook sees
//! the process of such a socket, so the program reports the cgroup only.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use probe_abi::OUTBOUND;

use super::{
    error::{self, Failure},
    owner::Owner,
    sock::{self, OFF_SOCK_ERR},
};
use crate::{
    cgroup,
    field::{offsets, pointer, read},
    watch,
};

offsets! {
    /// `sock.sk_protocol`
    OFF_SOCK_PROTOCOL;
    /// `sock.sk_cgrp_data.cgroup`
    OFF_SOCK_CGROUP;
}

const IPPROTO_TCP: u16 = 6;
const IPPROTO_MPTCP: u16 = 262;

/// Program for the raw tracepoint `inet_sk_error_report(sock)`.
#[raw_tracepoint(tracepoint = "inet_sk_error_report")]
pub fn inet_sk_error_report(ctx: RawTracePointContext) -> i32 {
    let socket = ctx.arg::<u64>(0);
    let protocol: u16 = read(socket, &OFF_SOCK_PROTOCOL);
    if protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP {
        return 0;
    }
    let errno: u32 = read(socket, &OFF_SOCK_ERR);
    let cgroup_v2 = cgroup::id(pointer(socket, &OFF_SOCK_CGROUP));
    let owner = Owner { cgroup_v2, ..Owner::UNKNOWN };
    if errno == 0 || !watch::cgroup(&owner.cgroups()) {
        return 0;
    }
    let local = sock::port_key(socket, sock::local_port(socket));
    let failure = Failure { errno, protocol, from: 0, to: 0, direction: OUTBOUND };
    error::submit_or_count(socket, &owner, &local, &failure);
    0
}
