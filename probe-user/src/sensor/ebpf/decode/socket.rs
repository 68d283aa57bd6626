//! Records of sockets.

use std::{
    mem::offset_of,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use probe_abi as abi;

use super::bytes::{Bytes, DecodeError, nonzero};
use crate::{
    fact::{Direction, Protocol, Source, TcpState},
    sensor::record::{AcceptQueue, Connect, Owner, SocketError},
};

pub fn error(bytes: &Bytes<'_>) -> Result<SocketError, DecodeError> {
    const KEY: usize = offset_of!(abi::SocketError, key);
    let family = bytes.u16(KEY + offset_of!(abi::ErrorKey, family))?;
    let remote = peer(family, bytes.array(KEY + offset_of!(abi::ErrorKey, addr))?)?;
    let local = peer(family, bytes.array(offset_of!(abi::SocketError, local_addr))?)?;
    let [from] = bytes.array(KEY + offset_of!(abi::ErrorKey, from))?;
    let [to] = bytes.array(KEY + offset_of!(abi::ErrorKey, to))?;
    let [direction] = bytes.array(KEY + offset_of!(abi::ErrorKey, direction))?;
    let mut kind = [0; 4];
    for (at, word) in kind.iter_mut().enumerate() {
        *word = bytes.u64(KEY + 8 * at)?;
    }
    let start_ns = bytes.u64(offset_of!(abi::SocketError, start_ns))?;
    let parent_pid = bytes.u32(offset_of!(abi::SocketError, ppid))?;
    let owner = nonzero(bytes.u32(offset_of!(abi::SocketError, tgid))?);
    Ok(SocketError {
        at_ns: bytes.u64(offset_of!(abi::Header, at_ns))?,
        source: Source::Ebpf,
        errno: bytes.u16(KEY + offset_of!(abi::ErrorKey, errno))?,
        transition: TcpState::from_number(from).zip(TcpState::from_number(to)),
        protocol: protocol(bytes.u16(KEY + offset_of!(abi::ErrorKey, protocol))?),
        direction: match direction {
            abi::OUTBOUND => Direction::Outbound,
            abi::INBOUND => Direction::Inbound,
            other => return Err(DecodeError::Direction(other)),
        },
        local: SocketAddr::new(local, bytes.u16(offset_of!(abi::SocketError, local_port))?),
        remote: SocketAddr::new(remote, bytes.u16(offset_of!(abi::SocketError, remote_port))?),
        owner: owner.map(|pid| Owner { pid, parent_pid, start_ns }),
        cgroups: bytes
            .cgroups(offset_of!(abi::SocketError, cgroup_v2), offset_of!(abi::SocketError, cgroup_mem_v1))?,
        netns: nonzero(bytes.u32(offset_of!(abi::SocketError, netns))?),
        since_ns: nonzero(bytes.u64(offset_of!(abi::SocketError, since_ns))?),
        count: 1,
        kind,
    })
}

pub fn connect(bytes: &Bytes<'_>) -> Result<Connect, DecodeError> {
    const PEER: usize = offset_of!(abi::Connect, peer);
    let family = bytes.u16(PEER + offset_of!(abi::PeerKey, family))?;
    let remote = peer(family, bytes.array(PEER + offset_of!(abi::PeerKey, addr))?)?;
    Ok(Connect {
        at_ns: bytes.u64(offset_of!(abi::Header, at_ns))?,
        source: Source::Ebpf,
        owner: Owner {
            pid: bytes.u32(PEER + offset_of!(abi::PeerKey, tgid))?,
            parent_pid: bytes.u32(offset_of!(abi::Connect, ppid))?,
            start_ns: bytes.u64(offset_of!(abi::Connect, start_ns))?,
        },
        cgroups: bytes
            .cgroups(offset_of!(abi::Connect, cgroup_v2), offset_of!(abi::Connect, cgroup_mem_v1))?,
        remote: SocketAddr::new(remote, bytes.u16(PEER + offset_of!(abi::PeerKey, port))?),
        netns: nonzero(bytes.u32(offset_of!(abi::Connect, netns))?),
    })
}

pub fn queue(bytes: &Bytes<'_>) -> Result<AcceptQueue, DecodeError> {
    let family = bytes.u16(offset_of!(abi::AcceptQueue, family))?;
    let local = address(family, bytes.array(offset_of!(abi::AcceptQueue, addr))?)?;
    Ok(AcceptQueue {
        at_ns: bytes.u64(offset_of!(abi::Header, at_ns))?,
        source: Source::Ebpf,
        owner: Owner {
            pid: bytes.u32(offset_of!(abi::AcceptQueue, tgid))?,
            parent_pid: bytes.u32(offset_of!(abi::AcceptQueue, ppid))?,
            start_ns: bytes.u64(offset_of!(abi::AcceptQueue, start_ns))?,
        },
        cgroups: bytes
            .cgroups(offset_of!(abi::AcceptQueue, cgroup_v2), offset_of!(abi::AcceptQueue, cgroup_mem_v1))?,
        local: SocketAddr::new(local, bytes.u16(offset_of!(abi::AcceptQueue, port))?),
        waiting: bytes.u32(offset_of!(abi::AcceptQueue, waiting))?,
        backlog: bytes.u32(offset_of!(abi::AcceptQueue, backlog))?,
        netns: nonzero(bytes.u32(offset_of!(abi::AcceptQueue, netns))?),
    })
}

/// An address as the eBPF programs write it.
pub fn address(family: u16, bytes: [u8; 16]) -> Result<IpAddr, DecodeError> {
    let [a, b, c, d, ..] = bytes;
    match family {
        2 => Ok(IpAddr::V4(Ipv4Addr::new(a, b, c, d))),
        10 => Ok(IpAddr::V6(Ipv6Addr::from(bytes))),
        other => Err(DecodeError::Family(other)),
    }
}

/// The address at one end of a connection. An IPv4 address of an IPv6 socket is mapped, and unmapped here.
pub fn peer(family: u16, bytes: [u8; 16]) -> Result<IpAddr, DecodeError> {
    Ok(address(family, bytes)?.to_canonical())
}

/// By IP protocol number.
fn protocol(number: u16) -> Protocol {
    match number {
        6 => Protocol::Tcp,
        // UDP-Lite is UDP with a checksum over less.
        17 | 136 => Protocol::Udp,
        1 | 58 => Protocol::Icmp,
        _ => Protocol::Other,
    }
}
