//! Socket errors: kind, owner, and the counted retransmits.

use std::{
    io::Read,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use hostprobe::{
    fact::{Direction, Protocol, TcpState},
    host::cgroup::{Cgroups, Hierarchy},
    sensor::{
        ebpf::{CgroupId, Hook},
        record::{Owner, Record, SocketError},
    },
};
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::{check::FixtureCheck, fixture::Fixture, report::Outcome};

pub const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

pub const CHECKS: &[FixtureCheck] = &[
    ("TCP refused, IPv4", |fixture| refused(fixture, V4)),
    ("TCP refused, IPv6", |fixture| refused(fixture, V6)),
    ("TCP reset, IPv4", |fixture| reset(fixture, V4)),
    ("TCP reset, IPv6", |fixture| reset(fixture, V6)),
    ("TCP timeout, retransmits, IPv4", |fixture| timeout(fixture, V4)),
    ("TCP timeout, retransmits, IPv6", |fixture| timeout(fixture, V6)),
    ("UDP refused", udp),
];

/// Checks that the owner is this process.
pub fn ours(owner: &Owner) -> Result<()> {
    let parent = rustix::process::getppid().map_or(0, |it| it.as_raw_nonzero().get().cast_unsigned());
    let right = owner.pid == std::process::id() && owner.parent_pid == parent && owner.start_ns > 0;
    ensure!(right, "the owner is not this process: {owner:?}");
    Ok(())
}

/// Brings up the loopback interface of this network namespace.
pub fn loopback_up() -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: all zeros is a request without a name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP)?;
    // SAFETY: the request lives through the call, which reads it.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    ensure!(done == 0, "{}", std::io::Error::last_os_error());
    Ok(())
}

/// A socket bound to a free port of this address.
fn bound(ip: IpAddr) -> Result<(OwnedFd, SocketAddr)> {
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddr::new(ip, 0))?;
    let address = rustix::net::getsockname(&socket)?.try_into()?;
    Ok((socket, address))
}

fn error_at(fixture: &mut Fixture, what: &str, remote: SocketAddr) -> Result<SocketError> {
    fixture.wait_for(what, |record| {
        if let Record::SocketError(it) = record {
            Some(it.clone()).filter(|it| it.remote == remote)
        } else {
            None
        }
    })
}

/// A record without the parts that differ between two runs.
fn describe(error: &SocketError) -> String {
    let states = error.transition.map_or_else(String::new, |(from, to)| format!(", {from:?} to {to:?}"));
    format!("error {}{states}, its owner", error.errno)
}

fn refused(fixture: &mut Fixture, ip: IpAddr) -> Result<Outcome> {
    fixture.sensor.watch_process(std::process::id(), 1)?;
    // Bound but not listening: the port is closed, and no other process can get it.
    let (_closed, address) = bound(ip)?;
    let failed = TcpStream::connect(address).err().and_then(|it| it.raw_os_error());
    ensure!(failed == Some(libc::ECONNREFUSED), "connect: {failed:?}");
    let error = error_at(fixture, "refusal", address)?;
    ensure!(
        error.errno == 111 && error.transition == Some((TcpState::SynSent, TcpState::Close)),
        "{error:?}"
    );
    ensure!((error.protocol, error.direction) == (Protocol::Tcp, Direction::Outbound), "{error:?}");
    ensure!(error.local.ip() == ip && error.local.port() != 0 && error.netns.is_some(), "{error:?}");
    ensure!(error.since_ns.is_some_and(|since| since <= error.at_ns) && error.count == 1, "{error:?}");
    ours(&error.owner.context("no owner")?)?;
    Ok(Outcome::Passed(describe(&error)))
}

fn reset(fixture: &mut Fixture, ip: IpAddr) -> Result<Outcome> {
    fixture.sensor.watch_process(std::process::id(), 1)?;
    let listener = TcpListener::bind((ip, 0))?;
    let server = listener.local_addr()?;

    // The server aborts: the record is of its client.
    let client = TcpStream::connect(server)?;
    let (accepted, _) = listener.accept()?;
    abort(accepted)?;
    let at_client = error_at(fixture, "reset of a client", server)?;
    let local = client.local_addr()?;
    ensure!(at_client.local == local, "of the client at {local}: {at_client:?}");
    ensure!(at_client.direction == Direction::Outbound, "not outbound: {at_client:?}");

    // The client aborts: the record is of the server, which is the listening process.
    let client = TcpStream::connect(server)?;
    let there = client.local_addr()?;
    let (mut accepted, _) = listener.accept()?;
    abort(client)?;
    let at_server = error_at(fixture, "reset of a server", there)?;
    ensure!(at_server.local == server, "of the server at {server}: {at_server:?}");
    ensure!(at_server.direction == Direction::Inbound, "not inbound: {at_server:?}");
    let read = accepted.read(&mut [0]).err().and_then(|it| it.raw_os_error());
    ensure!(read == Some(libc::ECONNRESET), "read: {read:?}");

    for error in [&at_client, &at_server] {
        let how = Some((TcpState::Established, TcpState::Close));
        ensure!(error.errno == 104 && error.transition == how, "{error:?}");
        ours(&error.owner.context("no owner")?)?;
    }
    Ok(Outcome::Passed(format!("{}, at both ends", describe(&at_client))))
}

/// Closes a connection with a reset.
fn abort(stream: TcpStream) -> Result<()> {
    Ok(sockopt::set_socket_linger(stream.as_fd(), Some(Duration::ZERO))?)
}

/// Newer kernels send some SYNs at an even pace before they double the interval. With 0 all kernels do the same.
const LINEAR: &str = "/proc/sys/net/ipv4/tcp_syn_linear_timeouts";

fn timeout(fixture: &mut Fixture, ip: IpAddr) -> Result<Outcome> {
    match std::fs::write(LINEAR, "0") {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        result => result.context(LINEAR)?,
    }
    fixture.sensor.watch_process(std::process::id(), 1)?;
    let (listener, address) = bound(ip)?;
    rustix::net::listen(&listener, 1)?;
    drop_all_packets(&listener)?;

    let (client, _) = bound(ip)?;
    // Two SYNs: the timeout comes after three seconds instead of two minutes.
    set_option(&client, libc::IPPROTO_TCP, libc::TCP_SYNCNT, &1_i32)?;
    let before = syn_retransmits()?;
    let failed = rustix::net::connect(&client, &address).err().map(rustix::io::Errno::raw_os_error);
    ensure!(failed == Some(libc::ETIMEDOUT), "connect: {failed:?}");
    let again = syn_retransmits()? - before;
    let error = error_at(fixture, "timeout", address)?;
    ensure!(
        error.errno == 110 && error.transition == Some((TcpState::SynSent, TcpState::Close)),
        "{error:?}"
    );
    ensure!((error.protocol, error.direction) == (Protocol::Tcp, Direction::Outbound), "{error:?}");
    ours(&error.owner.context("no owner")?)?;
    let since = error.since_ns.context("no time of the request")?;
    ensure!(error.at_ns - since > 500_000_000, "after {} ns", error.at_ns - since);

    let counted = fixture.sensor.retransmits(error.at_ns + 1_000_000_000);
    let counted =
        counted.into_iter().find(|it| it.remote == address).context("no retransmits were counted")?;
    ours(&counted.owner)?;
    ensure!(
        counted.count == again,
        "{} retransmits counted, the kernel's own count is {again}",
        counted.count
    );
    Ok(Outcome::Passed(format!("{}, retransmits: {}", describe(&error), counted.count)))
}

/// Attaches a filter to a listener that drops every packet.
fn drop_all_packets(listener: &OwnedFd) -> Result<()> {
    let mut keep_nothing = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 }];
    let program = libc::sock_fprog { len: 1, filter: keep_nothing.as_mut_ptr() };
    set_option(listener, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

fn set_option<T>(socket: &OwnedFd, level: i32, option: i32, value: &T) -> Result<()> {
    let size = libc::socklen_t::try_from(size_of::<T>())?;
    // SAFETY: the value lives through the call, is as long as said, and is of the type that the option wants.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), size)
    };
    ensure!(set == 0, "option {option}: {}", std::io::Error::last_os_error());
    Ok(())
}

/// The kernel's own count of retransmitted SYNs in this network namespace.
fn syn_retransmits() -> Result<u64> {
    let table = std::fs::read_to_string("/proc/self/net/netstat")?;
    let mut lines = table.lines().filter(|line| line.starts_with("TcpExt:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { bail!("no TcpExt: {table}") };
    let found = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "TCPSynRetrans");
    Ok(found.context("no TCPSynRetrans")?.1.parse()?)
}

fn udp(fixture: &mut Fixture) -> Result<Outcome> {
    let coverage = fixture.sensor.coverage().iter().find(|it| it.hook == Hook::SocketReport);
    if let Some(reason) = coverage.and_then(|it| it.reason.clone()) {
        return Ok(Outcome::Absent(reason));
    }
    // The record of a UDP socket has a cgroup only. On a host with cgroup v1 that is the root for all processes.
    let cgroups = Cgroups::discover("/".as_ref())?;
    let own = cgroups.of_self().v2.context("no unified hierarchy is mounted")?;
    let id = cgroups.id(Hierarchy::V2, &own).context("the group has no id")?;
    fixture.sensor.watch_cgroup(CgroupId::Unified(id))?;
    let closed = UdpSocket::bind((V4, 0))?;
    let remote = closed.local_addr()?;
    drop(closed);
    let socket = UdpSocket::bind((V4, 0))?;
    socket.connect(remote)?;
    socket.send(b"x")?;
    let error = error_at(fixture, "refusal", remote)?;
    ensure!((error.errno, error.protocol, error.transition) == (111, Protocol::Udp, None), "{error:?}");
    ensure!(error.direction == Direction::Outbound && error.owner.is_none(), "{error:?}");
    ensure!(error.cgroups.v2 == Some(id) && error.local == socket.local_addr()?, "{error:?}");
    Ok(Outcome::Passed("error 111, its cgroup".to_owned()))
}
