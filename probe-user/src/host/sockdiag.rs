//! Asks the kernel for its sockets over netlink (`NETLINK_SOCK_DIAG`, as `ss` does).
//!
//! `/proc/net/tcp` lacks a listener's backlog, and lists every connection of the host only to show a few
//! listeners. Here the kernel filters: a dump of the listeners costs microseconds even on a busy host, and needs
//! no capability. It shows the sockets of the daemon's own network namespace alone, so that [`super::queue`]
//! reads `/proc` for the others. The messages are two fixed structures, which is less to carry than a crate.

use std::{
    collections::{HashMap, HashSet},
    io, iter,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use rustix::{
    io::retry_on_intr,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
        sockopt,
    },
};

/// `SOCK_DIAG_BY_FAMILY` (`linux/sock_diag.h`).
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP` (`linux/netlink.h`).
const REQUEST_DUMP: u16 = 0x301;
/// `NLMSG_ERROR` and `NLMSG_DONE` (`linux/netlink.h`).
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The length of `struct nlmsghdr`.
const HEADER: usize = 16;

const AF_UNIX: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;

/// The states' numbers (`net/tcp_states.h`).
const ESTABLISHED: u32 = 1;
const SYN_SENT: u32 = 2;
const FIN_WAIT1: u32 = 4;
const FIN_WAIT2: u32 = 5;
const TIME_WAIT: u32 = 6;
const CLOSE_WAIT: u32 = 8;
const LAST_ACK: u32 = 9;
const CLOSING: u32 = 11;
const LISTEN: u32 = 10;

/// The value of `idiag_timer` during a retransmit (`inet_csk_diag_fill` and its callers).
const RETRANSMIT_TIMER: u8 = 1;

/// The length of `struct inet_diag_msg`; the number of its attribute `INET_DIAG_INFO`, and the bit that asks for it
/// (`linux/inet_diag.h`).
const INET_DIAG_MSG: usize = 72;
const INFO: u16 = 2;
const WITH_INFO: u8 = 1 << (INFO - 1);

/// `UDIAG_SHOW_NAME | UDIAG_SHOW_PEER` (`linux/unix_diag.h`).
const UNIX_SHOW: u32 = 0x1 | 0x4;
/// `UNIX_DIAG_NAME` and `UNIX_DIAG_PEER` (`linux/unix_diag.h`).
const UNIX_NAME: u16 = 0;
const UNIX_PEER: u16 = 2;

/// The kernel answers within the system call; this is for the case that it does not.
const PATIENCE: Duration = Duration::from_secs(1);

/// Further sockets are left out.
const SOCKETS_MAX: usize = 65_536;

/// A TCP socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenQueue {
    /// The local address; unspecified for all addresses.
    pub address: IpAddr,
    pub port: u16,
    /// Its inode number, by which the descriptors in `/proc/PID/fd` name it.
    pub inode: u64,
    /// Connections that wait to be accepted.
    pub waiting: u32,
    pub backlog: u32,
}

/// A TCP socket with another end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its inode number; 0 if no process has it open any more.
    pub inode: u64,
    /// Its local address; a mapped IPv4 address as IPv4.
    pub local: SocketAddr,
    /// Its remote address, in the same form.
    pub remote: SocketAddr,
    /// The number of retransmits since the last answer of the other end.
    pub retransmits: u32,
}

/// A TCP connection, and when data went over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    pub connection: Connection,
    /// Bytes received that the process has not read.
    pub unread: u32,
    /// Since data was last sent, or else since it was made. In steps of the kernel's tick, 1 to 10 ms.
    pub sent_ago: Duration,
    /// The same of received data.
    pub received_ago: Duration,
    /// Segments with data that were sent and received.
    pub segments_sent: u32,
    pub segments_received: u32,
}

/// A connected Unix stream socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixEnd {
    /// Its inode number.
    pub inode: u64,
    /// The inode number of the other end.
    pub peer: u64,
    /// Whether it has a name: an accepted socket has its listener's, and a client seldom has one.
    pub named: bool,
}

/// The TCP listeners of the daemon's own network namespace.
///
/// Fails if the kernel lacks `tcp_diag`, or a security policy forbids the request.
pub fn listeners() -> io::Result<Vec<ListenQueue>> {
    let mut found = Vec::new();
    dump_tcp(TcpRequest { states: 1 << LISTEN, ..TcpRequest::default() }, |message| {
        keep(&mut found, listen_queue(message))
    })?;
    Ok(found)
}

/// The TCP sockets of the daemon's own network namespace with retransmits; if `established`, the established ones too.
///
/// With `established` the kernel returns every connection: tens of milliseconds with a hundred thousand of them.
pub fn connections(established: bool) -> io::Result<Vec<Connection>> {
    let mut found = Vec::new();
    let all = if established { 1 << ESTABLISHED } else { 0 };
    let leaving = 1 << FIN_WAIT1 | 1 << LAST_ACK | 1 << CLOSING;
    let states = all | 1 << SYN_SENT | leaving;
    dump_tcp(TcpRequest { states, ..TcpRequest::default() }, |message| {
        let state = message.get(1).copied().map_or(0, u32::from);
        let wanted = |it: &Connection| it.retransmits > 0 || state == ESTABLISHED;
        keep(&mut found, connection(message).filter(wanted));
    })?;
    Ok(found)
}

/// The established connections whose local port this is, in the daemon's own network namespace, and whether the other end
/// still has them open.
pub fn connections_at(port: u16) -> io::Result<Vec<(Connection, bool)>> {
    let mut found = Vec::new();
    let states = 1 << ESTABLISHED | 1 << CLOSE_WAIT;
    dump_tcp(TcpRequest { states, local: port, ..TcpRequest::default() }, |message| {
        let is_open = message.get(1).is_some_and(|state| u32::from(*state) == ESTABLISHED);
        keep(&mut found, connection(message).map(|it| (it, is_open)));
    })?;
    Ok(found)
}

/// The established connections to this remote port, and whether all that came over them has been read.
pub fn connections_to(port: u16) -> io::Result<Vec<(Connection, bool)>> {
    let mut found = Vec::new();
    let request = TcpRequest { states: 1 << ESTABLISHED, remote: port, ..TcpRequest::default() };
    dump_tcp(request, |message| {
        let is_read = unread(message) == Some(0);
        keep(&mut found, connection(message).map(|it| (it, is_read)));
    })?;
    Ok(found)
}

/// The established connections of the daemon's own network namespace, with when data went over them.
///
/// The kernel returns every connection: about a microsecond each.
pub fn exchanges() -> io::Result<Vec<Exchange>> {
    let mut found = Vec::new();
    let request = TcpRequest { states: 1 << ESTABLISHED, extensions: WITH_INFO, ..TcpRequest::default() };
    dump_tcp(request, |message| keep(&mut found, exchange(message)))?;
    Ok(found)
}

/// The remote address to which most connections use local ports from this range, with their number. Connections that
/// clients opened to a listener in the range do not count.
///
/// The kernel returns every connection, as with [`connections`].
pub fn busiest_remote(range: &RangeInclusive<u16>) -> io::Result<Option<(SocketAddr, u64)>> {
    let listening: HashSet<u16> = listeners()?.into_iter().map(|listener| listener.port).collect();
    let leaving =
        1 << FIN_WAIT1 | 1 << FIN_WAIT2 | 1 << TIME_WAIT | 1 << CLOSE_WAIT | 1 << LAST_ACK | 1 << CLOSING;
    let mut counts: HashMap<SocketAddr, u64> = HashMap::new();
    let states = 1 << ESTABLISHED | 1 << SYN_SENT | leaving;
    dump_tcp(TcpRequest { states, ..TcpRequest::default() }, |message| {
        let Some(Connection { local, remote, .. }) = connection(message) else { return };
        if range.contains(&local.port()) && !listening.contains(&local.port()) && counts.len() < SOCKETS_MAX {
            *counts.entry(remote).or_default() += 1;
        }
    })?;
    Ok(counts.into_iter().max_by_key(|(_, count)| *count))
}

/// Which TCP sockets the kernel lists.
#[derive(Clone, Copy, Default)]
struct TcpRequest {
    /// In one of these states, a bit each.
    states: u32,
    /// With these attributes.
    extensions: u8,
    /// With this local port; 0 is any.
    local: u16,
    /// With this remote port; 0 is any.
    remote: u16,
}

fn dump_tcp(wanted: TcpRequest, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    for family in [AF_INET, AF_INET6] {
        // struct inet_diag_req_v2: family, protocol, extensions, padding, states, and a socket id of 48 bytes.
        let mut request = vec![family, IPPROTO_TCP, wanted.extensions, 0];
        request.extend(wanted.states.to_ne_bytes());
        request.extend(wanted.local.to_be_bytes());
        request.extend(wanted.remote.to_be_bytes());
        request.extend([0; 44]);
        dump(&request, &mut each)?;
    }
    Ok(())
}

/// The connected Unix stream sockets of the daemon's own network namespace, both ends of each connection.
///
/// Fails where the kernel lacks `unix_diag`.
pub fn unix_ends() -> io::Result<Vec<UnixEnd>> {
    // struct unix_diag_req: family, protocol, padding, states, inode, what to show, and a cookie of 8 bytes.
    let mut request = vec![AF_UNIX, 0, 0, 0];
    request.extend((1_u32 << ESTABLISHED).to_ne_bytes());
    request.extend(0_u32.to_ne_bytes());
    request.extend(UNIX_SHOW.to_ne_bytes());
    request.extend([0; 8]);
    let mut found = Vec::new();
    dump(&request, |message| keep(&mut found, unix_end(message)))?;
    Ok(found)
}

fn keep<T>(found: &mut Vec<T>, one: Option<T>) {
    if found.len() < SOCKETS_MAX {
        found.extend(one);
    }
}

/// Requests all sockets that match, and passes each answer on without its header.
fn dump(request: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    let length = u32::try_from(HEADER + request.len()).unwrap_or_default();
    let mut message = Vec::with_capacity(HEADER + request.len());
    message.extend(length.to_ne_bytes());
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST_DUMP.to_ne_bytes());
    // The sequence number, and the port of the sender, which the kernel fills in.
    message.extend([0; 8]);
    message.extend(request);
    send(&socket, &message, SendFlags::empty())?;
    let mut buffer = vec![0_u8; 32 * 1024];
    loop {
        let (length, _) = retry_on_intr(|| recv(&socket, buffer.as_mut_slice(), RecvFlags::empty()))?;
        if length == 0 || take_messages(&buffer[..length], &mut each)? {
            return Ok(());
        }
    }
}

/// Takes the messages of one datagram; true if the last one was among them.
pub(super) fn take_messages(mut datagram: &[u8], each: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (u32_at(datagram, 0), u16_at(datagram, 4)) {
        let length = length as usize;
        let Some(body) = datagram.get(HEADER..length) else { break };
        match kind {
            DONE => return Ok(true),
            ERROR => {
                let number = u32_at(body, 0).unwrap_or_default() as i32;
                return Err(io::Error::from_raw_os_error(number.saturating_neg()));
            }
            BY_FAMILY => each(body),
            _ => {}
        }
        // Messages begin at multiples of 4.
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Reads a `struct inet_diag_msg`: family, state, timer, retransmits, the socket's id, expiry, both queues, the
/// user and the inode.
pub(super) fn listen_queue(message: &[u8]) -> Option<ListenQueue> {
    Some(ListenQueue {
        address: address(message, 8)?,
        port: u16::from_be_bytes(array::<2>(message, 4)?),
        waiting: u32_at(message, 56)?,
        backlog: u32_at(message, 60)?,
        inode: u64::from(u32_at(message, 68)?),
    })
}

/// Reads the same structure of a connection.
pub(super) fn connection(message: &[u8]) -> Option<Connection> {
    let end = |port: usize, ip: usize| {
        let port = u16::from_be_bytes(array::<2>(message, port)?);
        Some(SocketAddr::new(address(message, ip)?.to_canonical(), port))
    };
    Some(Connection {
        inode: u64::from(u32_at(message, 68)?),
        local: end(4, 8)?,
        remote: end(6, 24)?,
        // With another timer the count has another meaning: window probes or keepalives.
        retransmits: match *message.get(2)? {
            RETRANSMIT_TIMER => u32::from(*message.get(3)?),
            _ => 0,
        },
    })
}

/// The bytes that a connection has received and its process has not read (`idiag_rqueue`).
fn unread(message: &[u8]) -> Option<u32> {
    u32_at(message, 56)
}

/// Reads the same structure with the attribute `INET_DIAG_INFO`, which is a `struct tcp_info` (`linux/tcp.h`).
pub(super) fn exchange(message: &[u8]) -> Option<Exchange> {
    let info = attributes(message.get(INET_DIAG_MSG..)?).find(|(kind, _)| *kind == INFO)?.1;
    let millis = |at| u32_at(info, at).map(|ago| Duration::from_millis(ago.into()));
    Some(Exchange {
        connection: connection(message)?,
        unread: unread(message)?,
        sent_ago: millis(44)?,
        received_ago: millis(52)?,
        segments_received: u32_at(info, 152)?,
        segments_sent: u32_at(info, 156)?,
    })
}

/// The attributes after a structure, with their numbers.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    iter::from_fn(move || {
        let (length, kind) = (usize::from(u16_at(bytes, 0)?), u16_at(bytes, 2)?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// An address in that structure, of the family it names.
fn address(message: &[u8], at: usize) -> Option<IpAddr> {
    match *message.first()? {
        AF_INET => Some(IpAddr::V4(Ipv4Addr::from(array::<4>(message, at)?))),
        AF_INET6 => Some(IpAddr::V6(Ipv6Addr::from(array::<16>(message, at)?))),
        _ => None,
    }
}

/// Reads a `struct unix_diag_msg`: family, type, state, padding, inode, a cookie, and then attributes.
pub(super) fn unix_end(message: &[u8]) -> Option<UnixEnd> {
    let mut end = UnixEnd { inode: u64::from(u32_at(message, 4)?), peer: 0, named: false };
    for (kind, value) in attributes(message.get(16..)?) {
        match kind {
            UNIX_NAME => end.named = !value.is_empty(),
            UNIX_PEER => end.peer = u64::from(u32_at(value, 0)?),
            _ => {}
        }
    }
    (end.peer != 0).then_some(end)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{SocketAddr, TcpListener, TcpStream},
        os::unix::net::{UnixListener, UnixStream},
    };

    use super::*;

    /// Other sockets may have the same port at another address.
    fn queue_at(address: SocketAddr) -> ListenQueue {
        let all = listeners().unwrap();
        all.into_iter().find(|queue| (queue.address, queue.port) == (address.ip(), address.port())).unwrap()
    }

    #[test]
    fn waiting_connections_and_the_backlog_are_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Listening again changes the backlog.
        rustix::net::listen(&listener, 1).unwrap();
        let address = listener.local_addr().unwrap();
        let before = queue_at(address);
        assert_eq!((before.waiting, before.backlog), (0, 1));
        let _client = TcpStream::connect(address).unwrap();
        assert_eq!(queue_at(address).waiting, 1);

        let six = TcpListener::bind("[::1]:0").unwrap();
        let before = queue_at(six.local_addr().unwrap());
        assert_eq!(before.waiting, 0);
    }

    #[test]
    fn the_ends_of_a_unix_connection_name_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        let inode = |file: &UnixStream| rustix::fs::fstat(file).unwrap().st_ino;
        let ends = unix_ends().unwrap();
        let accepted = UnixEnd { inode: inode(&server), peer: inode(&client), named: true };
        assert!(ends.contains(&accepted));
        assert!(ends.contains(&UnixEnd { inode: inode(&client), peer: inode(&server), named: false }));
    }

    #[test]
    fn garbage_is_skipped_and_errors_are_returned() {
        let mut seen = 0;
        for datagram in [&[][..], &[1, 2, 3], &[0xff; 64], &[0; 64]] {
            assert!(!take_messages(datagram, &mut |_| seen += 1).unwrap());
        }
        assert_eq!(seen, 0);
        let mut refused = vec![];
        refused.extend(20_u32.to_ne_bytes());
        refused.extend(ERROR.to_ne_bytes());
        refused.extend([0; 10]);
        refused.extend((-2_i32).to_ne_bytes());
        let error = take_messages(&refused, &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!((listen_queue(&[AF_INET; 20]), unix_end(&[0; 10])), (None, None));
    }
}
