//! TCP's changes of state, errors of sockets, and segments sent again.
//!
//! Most of it happens in softirq context, where the current process is whoever was interrupted. So whose socket it is gets
//! noted while its owner acts ([`owner`]), and is looked up later.

mod connect;
mod error;
mod listen;
mod owner;
mod probes;
mod queue;
mod report;
mod retransmit;
mod state;

use probe_abi::PortKey;

use crate::field::{self, offsets, pointer, read};

offsets! {
    /// `sock_common.skc_family`
    OFF_SOCK_FAMILY;
    /// `sock_common.skc_num`, host byte order
    OFF_SOCK_NUM;
    /// `sock_common.skc_dport`, network byte order
    OFF_SOCK_DPORT;
    /// `sock_common.skc_rcv_saddr`
    OFF_SOCK_RCV_SADDR;
    /// `sock_common.skc_daddr`
    OFF_SOCK_DADDR;
    /// `sock_common.skc_v6_rcv_saddr`, absent without IPv6
    OFF_SOCK_V6_RCV_SADDR;
    /// `sock_common.skc_v6_daddr`, absent without IPv6
    OFF_SOCK_V6_DADDR;
    /// `sock_common.skc_net.net`, absent without network namespaces
    OFF_SOCK_NET;
    /// `net.ns.inum`
    OFF_NET_INUM;
    /// `sock.sk_err`
    OFF_SOCK_ERR;
    /// `inet_sock.inet_sport`, network byte order
    OFF_INET_SPORT;
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

const TCP_ESTABLISHED: u32 = 1;
const TCP_SYN_SENT: u32 = 2;
const TCP_SYN_RECV: u32 = 3;
const TCP_FIN_WAIT1: u32 = 4;
const TCP_FIN_WAIT2: u32 = 5;
const TCP_TIME_WAIT: u32 = 6;
const TCP_CLOSE: u32 = 7;
const TCP_LAST_ACK: u32 = 9;
const TCP_LISTEN: u32 = 10;
const TCP_CLOSING: u32 = 11;

#[inline(always)]
fn family(socket: u64) -> u16 {
    read(socket, &OFF_SOCK_FAMILY)
}

/// The local port. The source port outlives a close; the bound number is there even before the first packet.
#[inline(always)]
fn local_port(socket: u64) -> u16 {
    match read::<u16>(socket, &OFF_INET_SPORT) {
        0 => read(socket, &OFF_SOCK_NUM),
        port => u16::from_be(port),
    }
}

#[inline(always)]
fn remote_port(socket: u64) -> u16 {
    u16::from_be(read(socket, &OFF_SOCK_DPORT))
}

/// Inode of the network namespace; 0 where the kernel has none.
#[inline(always)]
fn netns(socket: u64) -> u32 {
    read(pointer(socket, &OFF_SOCK_NET), &OFF_NET_INUM)
}

/// A local port where it means something: in its network namespace.
#[inline(always)]
fn port_key(socket: u64, port: u16) -> PortKey {
    PortKey { netns: netns(socket), port: u32::from(port) }
}

/// Writes the local address.
///
/// # Safety
/// `to` must be memory of this program's.
#[inline(always)]
unsafe fn write_local(to: *mut [u8; 16], socket: u64, family: u16) {
    // SAFETY: the caller vouches for `to`.
    unsafe {
        (*to) = [0; 16];
        if family == AF_INET6 {
            field::copy(to, socket, &OFF_SOCK_V6_RCV_SADDR);
        } else {
            field::copy(to.cast::<[u8; 4]>(), socket, &OFF_SOCK_RCV_SADDR);
        }
    }
}

/// Writes the remote address.
///
/// # Safety
/// `to` must be memory of this program's.
#[inline(always)]
unsafe fn write_remote(to: *mut [u8; 16], socket: u64, family: u16) {
    // SAFETY: the caller vouches for `to`.
    unsafe {
        (*to) = [0; 16];
        if family == AF_INET6 {
            field::copy(to, socket, &OFF_SOCK_V6_DADDR);
        } else {
            field::copy(to.cast::<[u8; 4]>(), socket, &OFF_SOCK_DADDR);
        }
    }
}
