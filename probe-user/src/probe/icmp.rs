//! ICMP: does a host answer an echo request?
//!
//! Linux has a kind of socket for that which needs no right (`icmp(7)`, `net.ipv4.ping_group_range`). Where the daemon's group may
//! not use it, a raw socket with `CAP_NET_RAW` does. A payload of random bytes tells the answer from all others.

use std::{
    io,
    net::{SocketAddr, UdpSocket as StdUdpSocket},
    os::fd::OwnedFd,
};

use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, ipproto, socket_with};
use tokio::net::UdpSocket;

use super::{
    failure::Failure,
    progress::{Connection, Waiting},
    tcp,
};
use crate::{
    config::Probe,
    fact::{ProbeFailure, ProbeOutcome},
};

/// The types of a request and its answer (RFC 792, RFC 4443).
const V4: (u8, u8) = (8, 0);
const V6: (u8, u8) = (128, 129);

/// Type, code, checksum, id and sequence number.
const HEADER: usize = 8;
const PAYLOAD: usize = 16;

/// The longest datagram that is read: an answer, behind an IPv4 header.
const ANSWER_MAX: usize = 128;

pub(super) async fn run(probe: &Probe, waiting: &Waiting) -> Result<ProbeOutcome, Failure> {
    let host = probe.target.expose();
    // The resolver wants a port.
    let target = if host.contains(':') { format!("[{host}]:0") } else { format!("{host}:0") };
    let addresses = tcp::resolve(&target, waiting).await?;
    waiting.set("the echo");
    waiting.connection(Connection::Made);
    tcp::any_of(addresses, host, waiting.stagger(), ask).await
}

async fn ask(address: SocketAddr) -> Result<ProbeOutcome, Failure> {
    let peer = address.ip().to_string();
    let (socket, way) = open(address).map_err(|error| cannot_open(&error, &peer))?;
    let failed = |error: io::Error| of_io(&error, &peer);
    socket.connect(address).await.map_err(failed)?;
    let mut payload = [0; PAYLOAD];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut payload)
        .map_err(|_| Failure::new(ProbeFailure::Local, "the kernel gives no random bytes"))?;
    socket.send(&request(&payload, address.is_ipv4())).await.map_err(failed)?;
    let mut buffer = [0; ANSWER_MAX];
    loop {
        // A raw socket gets what the host sends to anybody here.
        let length = socket.recv(&mut buffer).await.map_err(failed)?;
        let has_header = way == IcmpWay::Raw && address.is_ipv4();
        if is_answer(&buffer[..length], &payload, address.is_ipv4(), has_header) {
            return Ok(ProbeOutcome::Ok);
        }
    }
}

/// The kind of socket that sends echo requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpWay {
    /// That of `icmp(7)`, for groups in `net.ipv4.ping_group_range`.
    Ping,
    /// A raw one, with `CAP_NET_RAW`.
    Raw,
}

/// How this process can send echo requests of IPv4. IPv6 has the same rules.
pub fn icmp_way() -> io::Result<IcmpWay> {
    open_socket(true).map(|(_, way)| way)
}

fn open(address: SocketAddr) -> io::Result<(UdpSocket, IcmpWay)> {
    let (socket, way) = open_socket(address.is_ipv4())?;
    Ok((UdpSocket::from_std(StdUdpSocket::from(socket))?, way))
}

fn open_socket(is_v4: bool) -> io::Result<(OwnedFd, IcmpWay)> {
    let (family, protocol) = match is_v4 {
        true => (AddressFamily::INET, ipproto::ICMP),
        false => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let open = |kind| -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(socket_with(family, kind, flags, Some::<Protocol>(protocol))?)
    };
    match open(SocketType::DGRAM) {
        Ok(socket) => Ok((socket, IcmpWay::Ping)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Ok((open(SocketType::RAW)?, IcmpWay::Raw))
        }
        Err(error) => Err(error),
    }
}

/// The kernel sets the id of the other kind of socket, and the checksum of ICMPv6.
fn request(payload: &[u8; PAYLOAD], is_v4: bool) -> Vec<u8> {
    let kind = if is_v4 { V4.0 } else { V6.0 };
    let mut message = vec![kind, 0, 0, 0, payload[0], payload[1], 0, 1];
    message.extend_from_slice(payload);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// RFC 1071.
fn checksum(message: &[u8]) -> u16 {
    let words =
        message.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)));
    let sum = words.fold(0, |sum, word| {
        let sum: u32 = sum + word;
        (sum & 0xffff) + (sum >> 16)
    });
    !(sum as u16)
}

fn is_answer(datagram: &[u8], payload: &[u8; PAYLOAD], is_v4: bool, has_header: bool) -> bool {
    let message = if has_header {
        // Its length is in words of four bytes.
        let length = datagram.first().map_or(0, |first| usize::from(first & 0xf) * 4);
        datagram.get(length..).unwrap_or_default()
    } else {
        datagram
    };
    let kind = if is_v4 { V4.1 } else { V6.1 };
    message.first() == Some(&kind)
        && message.get(6..HEADER) == Some(&[0, 1])
        && message.get(HEADER..) == Some(payload)
}

/// Whether a datagram answers the request with this payload.
#[cfg(fuzzing)]
pub fn is_echo(datagram: &[u8], payload: &[u8; 16], is_v4: bool, has_header: bool) -> bool {
    is_answer(datagram, payload, is_v4, has_header)
}

fn of_io(error: &io::Error, peer: &str) -> Failure {
    let failure = Failure::io(error, peer);
    if failure.kind == ProbeFailure::Local {
        return failure;
    }
    // Firewalls of this host refuse what is sent with that.
    if failure.kind == ProbeFailure::Auth {
        return Failure { kind: ProbeFailure::Unreachable, ..failure };
    }
    Failure::new(ProbeFailure::Unreachable, format!("{peer} cannot be reached: {error}"))
}

fn cannot_open(error: &io::Error, peer: &str) -> Failure {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return Failure::io(error, peer);
    }
    let text = format!(
        "cannot ping {peer}: hostprobe may open no ICMP socket; set the sysctl net.ipv4.ping_group_range to a range with its \
         group, or give it CAP_NET_RAW"
    );
    Failure::new(ProbeFailure::CannotAsk, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_right_checksum_and_only_its_answer_is_taken() {
        let payload = [7; PAYLOAD];
        let sent = request(&payload, true);
        assert_eq!(checksum(&sent), 0, "the sum with its checksum is all ones");
        let mut answer = sent.clone();
        assert!(!is_answer(&answer, &payload, true, false), "its own request");
        answer[0] = V4.1;
        assert!(is_answer(&answer, &payload, true, false));
        let behind_header = [&[0x45][..], &[0; 19], &answer].concat();
        assert!(is_answer(&behind_header, &payload, true, true));
        assert!(!is_answer(&answer, &[8; PAYLOAD], true, false), "the answer to another one");
        for length in 0..behind_header.len() {
            assert!(!is_answer(&behind_header[..length], &payload, true, true));
        }
        answer[0] = V6.1;
        assert!(is_answer(&answer, &payload, false, false));
    }
}
