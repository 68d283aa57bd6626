//! Listeners, connections, and how they fail. All but [`Listen`] carry the owner of the socket.

use core::mem::{offset_of, size_of};

use crate::{COMM_LEN, Header};

/// [`ErrorKey::direction`]: the owner asked for the connection.
pub const OUTBOUND: u8 = 1;
/// [`ErrorKey::direction`]: the remote side asked for it.
pub const INBOUND: u8 = 2;

/// Key of `RETRANSMITS`, and of the connections that were already reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PeerKey {
    /// Remote address.
    pub addr: [u8; 16],
    /// The process that asked for the connection.
    pub tgid: u32,
    /// Remote port.
    pub port: u16,
    pub family: u16,
}

/// Value of `RETRANSMITS`, one for each CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Retransmits {
    /// Segments that this CPU sent again.
    pub count: u64,
    pub ppid: u64,
    /// 0 on a CPU that counted nothing.
    pub start_ns: u64,
    pub cgroup_v2: u64,
    pub cgroup_mem_v1: u64,
}

/// Key of `ERRORS`: two errors with the same key are of the same kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ErrorKey {
    /// Remote address.
    pub addr: [u8; 16],
    /// Thread group id of the owner. Where no process is known, the lower half of its cgroup's id.
    pub owner: u32,
    /// The server's port: for [`OUTBOUND`] the remote one, for [`INBOUND`] the local one. A client's port is new each time.
    pub port: u16,
    pub family: u16,
    /// Error number (`sk_err`).
    pub errno: u16,
    /// IP protocol number.
    pub protocol: u16,
    /// TCP state before; 0 for other protocols.
    pub from: u8,
    /// TCP state after; 0 for other protocols.
    pub to: u8,
    /// [`OUTBOUND`] or [`INBOUND`].
    pub direction: u8,
    pub pad: u8,
}

/// Value of `ERRORS`, one for each CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Repeats {
    /// Errors of the kind that this CPU saw after the first one.
    pub count: u64,
    /// When it saw the last of them.
    pub last_ns: u64,
}

/// A TCP listener appeared or closed. Urgent ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Listen {
    /// [`KIND_LISTEN`](crate::KIND_LISTEN).
    pub header: Header,
    pub start_ns: u64,
    pub cgroup_v2: u64,
    pub cgroup_mem_v1: u64,
    /// The process that listens, or closes its listener: the current one.
    pub tgid: u32,
    /// 1: listens from now on; 0: no longer.
    pub up: u32,
    pub family: u16,
    /// Local port.
    pub port: u16,
    pub pad: u32,
    /// Local address.
    pub addr: [u8; 16],
    /// `comm` of the current thread.
    pub comm: [u8; COMM_LEN],
}

/// The first error of its kind. Urgent ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SocketError {
    /// [`KIND_SOCKET_ERROR`](crate::KIND_SOCKET_ERROR).
    pub header: Header,
    pub key: ErrorKey,
    /// 0 without an owner.
    pub start_ns: u64,
    pub cgroup_v2: u64,
    pub cgroup_mem_v1: u64,
    /// When the owner asked for the connection; 0 if not known.
    pub since_ns: u64,
    pub local_addr: [u8; 16],
    /// 0 if not known.
    pub tgid: u32,
    pub netns: u32,
    pub local_port: u16,
    pub remote_port: u16,
    pub ppid: u32,
}

/// A watched process connected to a peer for the first time. Bulk ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Connect {
    /// [`KIND_CONNECT`](crate::KIND_CONNECT).
    pub header: Header,
    pub peer: PeerKey,
    pub start_ns: u64,
    pub cgroup_v2: u64,
    pub cgroup_mem_v1: u64,
    pub netns: u32,
    pub ppid: u32,
}

/// A watched listener has no room for one more connection. Urgent ring, once a second at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct AcceptQueue {
    /// [`KIND_ACCEPT_QUEUE`](crate::KIND_ACCEPT_QUEUE).
    pub header: Header,
    pub start_ns: u64,
    pub cgroup_v2: u64,
    pub cgroup_mem_v1: u64,
    /// Local address.
    pub addr: [u8; 16],
    pub tgid: u32,
    /// Connections that wait for `accept`.
    pub waiting: u32,
    /// The backlog: the kernel lets one more than this wait.
    pub backlog: u32,
    pub netns: u32,
    pub family: u16,
    /// Local port.
    pub port: u16,
    pub ppid: u32,
}

const _: () = {
    assert!(size_of::<Listen>() == 88 && offset_of!(Listen, addr) == 56);
    assert!(size_of::<PeerKey>() == 24);
    assert!(size_of::<ErrorKey>() == 32 && offset_of!(ErrorKey, errno) == 24);
    assert!(size_of::<Repeats>() == 16 && size_of::<Retransmits>() == 40);
    assert!(size_of::<SocketError>() == 112 && offset_of!(SocketError, local_addr) == 80);
    assert!(size_of::<Connect>() == 72 && offset_of!(Connect, start_ns) == 40);
    assert!(size_of::<AcceptQueue>() == 80 && offset_of!(AcceptQueue, addr) == 40);
};
