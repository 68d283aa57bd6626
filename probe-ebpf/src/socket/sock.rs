//! Reads from a `struct sock`.

use probe_abi::{PeerKey, PortKey};

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

pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;

pub const TCP_ESTABLISHED: u32 = 1;
pub const TCP_SYN_SENT: u32 = 2;
pub const TCP_SYN_RECV: u32 = 3;
pub const TCP_FIN_WAIT1: u32 = 4;
pub const TCP_FIN_WAIT2: u32 = 5;
pub const TCP_TIME_WAIT: u32 = 6;
pub const TCP_CLOSE: u32 = 7;
pub const TCP_LAST_ACK: u32 = 9;
pub const TCP_LISTEN: u32 = 10;
pub const TCP_CLOSING: u32 = 11;

#[inline(always)]
pub fn family(socket: u64) -> u16 {
    read(socket, &OFF_SOCK_FAMILY)
}

/// The local port. `inet_sport` outlives a close; `skc_num` is there before the first packet.
#[inline(always)]
pub fn local_port(socket: u64) -> u16 {
    match read::<u16>(socket, &OFF_INET_SPORT) {
        0 => read(socket, &OFF_SOCK_NUM),
        port => u16::from_be(port),
    }
}

#[inline(always)]
pub fn remote_port(socket: u64) -> u16 {
    u16::from_be(read(socket, &OFF_SOCK_DPORT))
}

#[inline(always)]
pub fn netns(socket: u64) -> u32 {
    read(pointer(socket, &OFF_SOCK_NET), &OFF_NET_INUM)
}

/// A local port with its network namespace.
#[inline(always)]
pub fn port_key(socket: u64, port: u16) -> PortKey {
    PortKey { netns: netns(socket), port: u32::from(port) }
}

/// # Safety
/// `to` must be memory of this program.
#[inline(always)]
pub unsafe fn write_local(to: *mut [u8; 16], socket: u64, family: u16) {
    // SAFETY: the caller guarantees `to`.
    unsafe {
        (*to) = [0; 16];
        if family == AF_INET6 {
            field::copy(to, socket, &OFF_SOCK_V6_RCV_SADDR);
        } else {
            field::copy(to.cast::<[u8; 4]>(), socket, &OFF_SOCK_RCV_SADDR);
        }
    }
}

/// # Safety
/// `to` must be memory of this program.
#[inline(always)]
pub unsafe fn write_remote(to: *mut [u8; 16], socket: u64, family: u16) {
    // SAFETY: the caller guarantees `to`.
    unsafe {
        (*to) = [0; 16];
        if family == AF_INET6 {
            field::copy(to, socket, &OFF_SOCK_V6_DADDR);
        } else {
            field::copy(to.cast::<[u8; 4]>(), socket, &OFF_SOCK_DADDR);
        }
    }
}

/// The remote side of a socket, as the key of its process.
#[inline(always)]
pub fn peer(socket: u64, tgid: u32) -> PeerKey {
    let family = family(socket);
    let mut key = PeerKey { addr: [0; 16], tgid, port: remote_port(socket), family };
    // SAFETY: the key is on this program's stack.
    unsafe { write_remote(&raw mut key.addr, socket, family) };
    key
}
