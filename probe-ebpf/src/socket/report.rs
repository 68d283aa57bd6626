//! `inet_sk_error_report`: errors of sockets that have no states, such as UDP's.
//!
//! For TCP it would only repeat what the change of state says, and report local aborts as resets of the other side. There is
//! no moment at which such a socket's process can be noted, so its cgroup must do.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use probe_abi::OUTBOUND;

use super::{
    OFF_SOCK_ERR,
    error::{self, Failure},
    owner::Owner,
    port_key,
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
    let owner = Owner { cgroup_v2, ..Owner::NOBODY };
    if errno == 0 || !watch::cgroup(&owner.cgroups()) {
        return 0;
    }
    let local = port_key(socket, super::local_port(socket));
    error::tell(socket, &owner, &local, &Failure { errno, protocol, from: 0, to: 0, direction: OUTBOUND });
    0
}
