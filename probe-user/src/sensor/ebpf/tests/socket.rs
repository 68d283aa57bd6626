//! Socket errors, connections and accept queues, with their owners.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    thread,
};

use rustix::net::{AddressFamily, SocketType, sockopt};

use super::*;
use crate::{
    clock::Timestamp,
    fact::{Direction, Protocol, TcpState},
    sensor::loss::LossClass,
};

mod namespace;

/// Watches this process, which connects.
fn watching(test: &str) -> Option<Fixture> {
    let mut fixture = fixture(test)?;
    fixture.sensor.watch_process(std::process::id(), 1).unwrap();
    Some(fixture)
}

fn error_at(remote: SocketAddr) -> impl FnMut(Record) -> Option<SocketError> {
    move |record| {
        if let Record::SocketError(error) = record {
            Some(error).filter(|it| it.remote == remote)
        } else {
            None
        }
    }
}

/// A closed port. A bound socket that does not listen keeps it from other processes.
struct ClosedPort {
    _socket: std::os::fd::OwnedFd,
    address: SocketAddr,
}

impl ClosedPort {
    fn new(ip: IpAddr) -> Self {
        let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket(family, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::new(ip, 0)).unwrap();
        let address = rustix::net::getsockname(&socket).unwrap().try_into().unwrap();
        Self { _socket: socket, address }
    }
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

#[test]
fn a_refused_connection_has_its_owner() {
    let Some(mut fixture) = watching("a_refused_connection_has_its_owner") else { return };
    let ours = std::process::id();
    for (ip, mapped) in [(V4, false), (V6, false), (V4, true)] {
        let closed = ClosedPort::new(ip);
        let asked = if mapped {
            SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), closed.address.port())
        } else {
            closed.address
        };
        let failed = TcpStream::connect(asked).unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(libc::ECONNREFUSED));
        let error = fixture.wait_for("refusal", error_at(closed.address));
        assert_eq!(error.errno, 111);
        assert_eq!(error.transition, Some((TcpState::SynSent, TcpState::Close)));
        assert_eq!((error.protocol, error.direction), (Protocol::Tcp, Direction::Outbound));
        let owner = error.owner.unwrap();
        assert_eq!((owner.pid, error.count), (ours, 1));
        assert!(owner.parent_pid > 0 && owner.start_ns > 0 && owner.start_ns < error.at_ns);
        assert!(error.since_ns.is_some_and(|since| since > owner.start_ns && since <= error.at_ns));
        assert_eq!(error.local.ip(), ip, "over the loopback both ends are the same");
        assert_ne!(error.local.port(), 0);
        assert!(error.netns.is_some());
    }
}

#[test]
fn a_reset_is_reported_at_the_end_that_receives_it() {
    let Some(mut fixture) = watching("a_reset_is_reported_at_the_end_that_receives_it") else { return };
    let listener = TcpListener::bind((V4, 0)).unwrap();
    let server = listener.local_addr().unwrap();

    // The server aborts: the record is of the client.
    let client = TcpStream::connect(server).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    abort(accepted);
    let error = fixture.wait_for("reset of a client", error_at(server));
    assert_eq!((error.errno, error.direction), (104, Direction::Outbound));
    assert_eq!(error.transition, Some((TcpState::Established, TcpState::Close)));
    assert_eq!((error.owner.unwrap().pid, error.local), (std::process::id(), client.local_addr().unwrap()));

    // The client aborts: the record is of the listening process, not of the interrupted one.
    let client = TcpStream::connect(server).unwrap();
    let there = client.local_addr().unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    abort(client);
    let error = fixture.wait_for("reset of a server", error_at(there));
    assert_eq!((error.errno, error.direction), (104, Direction::Inbound));
    assert_eq!((error.local, error.owner.unwrap().pid), (server, std::process::id()));
    assert_eq!(error.since_ns, None);
    assert_eq!(accepted.read(&mut [0]).unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
}

/// Closes a connection with a reset.
fn abort(stream: TcpStream) {
    sockopt::set_socket_linger(stream.as_fd(), Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_clean_close_and_an_unwatched_failure_are_not_reported() {
    let Some(mut fixture) = fixture("a_clean_close_and_an_unwatched_failure_are_not_reported") else {
        return;
    };
    let listener = TcpListener::bind((V4, 0)).unwrap();
    let server = listener.local_addr().unwrap();
    let unwatched = ClosedPort::new(V4);
    TcpStream::connect(unwatched.address).unwrap_err();

    fixture.sensor.watch_process(std::process::id(), 1).unwrap();
    let mut client = TcpStream::connect(server).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    drop(accepted);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    drop(client);
    // A reset after a FIN is a common way to close.
    let mut client = TcpStream::connect(server).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    client.write_all(b"x").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    abort(accepted);

    let marker = ClosedPort::new(V4);
    TcpStream::connect(marker.address).unwrap_err();
    let candidates = [server, unwatched.address, marker.address];
    let first = fixture.wait_for("marker", |record| {
        if let Record::SocketError(error) = record {
            Some(error.remote).filter(|it| candidates.contains(it))
        } else {
            None
        }
    });
    assert_eq!(first, marker.address);
}

#[test]
fn a_watched_port_serves_for_a_listener_from_before_the_load() {
    let listener = TcpListener::bind((V4, 0)).unwrap();
    let Some(mut fixture) = fixture("a_watched_port_serves_for_a_listener_from_before_the_load") else {
        return;
    };
    let server = listener.local_addr().unwrap();
    let reader = crate::host::ProcReader::new("/").unwrap();
    let netns = reader.netns(std::process::id()).unwrap();
    fixture.sensor.watch_port(WatchedPort { netns, port: server.port() }).unwrap();
    let client = TcpStream::connect(server).unwrap();
    let there = client.local_addr().unwrap();
    let (_accepted, _) = listener.accept().unwrap();
    abort(client);
    let error = fixture.wait_for("reset of a server", error_at(there));
    assert_eq!((error.owner, error.direction, error.local), (None, Direction::Inbound, server));
    assert_eq!(error.netns, Some(netns));
}

#[test]
fn the_probers_connections_are_reported_at_neither_end() {
    let options =
        Options { unwatched_per_second: u32::MAX, prober: std::process::id(), ..Options::default() };
    let test = "the_probers_connections_are_reported_at_neither_end";
    let Some(mut fixture) = fixture_with(test, &options) else { return };
    // A server process that prints its port, accepts every connection and never reads.
    let code = "import socket, sys\ns = socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], \
                flush=True)\nkept = []\nwhile True: kept.append(s.accept())\n";
    let Ok(mut child) = Command::new("python3").args(["-c", code]).stdout(Stdio::piped()).spawn() else {
        assert!(std::env::var_os("CI").is_none(), "{test}: needs python3");
        eprintln!("skipped {test}: needs python3");
        return;
    };
    fixture.sensor.watch_process(child.id(), 1).unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line)
        .unwrap();
    let server = SocketAddr::new(V4, line.trim().parse().unwrap());
    abort(TcpStream::connect(server).unwrap());

    // Another process does the same to the server afterwards, and that is reported.
    let mut other = Command::new("python3")
        .args(["-c", "import socket, struct, sys\ns = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n\
                      s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\nprint(s.getsockname()[1])\ns.close()"])
        .arg(server.port().to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    other.stdout.take().unwrap().read_to_string(&mut port).unwrap();
    other.wait().unwrap();
    let first = fixture.wait_for("reset of a server", |record| {
        if let Record::SocketError(error) = record {
            Some(error).filter(|it| it.local == server)
        } else {
            None
        }
    });
    assert_eq!(first.remote.port().to_string(), port.trim());
    assert_eq!(first.owner.unwrap().pid, child.id());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn repeats_are_counted_and_reported_as_a_sum() {
    let Some(mut fixture) = watching("repeats_are_counted_and_reported_as_a_sum") else { return };
    let closed = ClosedPort::new(V4);
    for _ in 0..20 {
        TcpStream::connect(closed.address).unwrap_err();
    }
    let first = fixture.wait_for("refusal", error_at(closed.address));
    let mut rest = Vec::new();
    fixture.sensor.drain(&mut rest);
    assert!(rest.into_iter().find_map(error_at(closed.address)).is_none(), "repeats are only counted");

    // No sum is due before its time.
    let mut after = |seconds: u64| {
        let now = Timestamp::from_nanos(first.at_ns).plus(Duration::from_secs(seconds));
        let sums = fixture.sensor.repeated_errors(now.as_nanos());
        sums.into_iter().find(|it| it.remote == closed.address)
    };
    assert_eq!(after(5), None);
    let sum = after(11).unwrap();
    assert_eq!((sum.count, sum.errno, sum.owner), (19, 111, first.owner));
    assert!(sum.at_ns > first.at_ns);
    assert_eq!(after(15), None);
    // The kind was quiet: its next error is a first one.
    assert_eq!(after(30), None);
    TcpStream::connect(closed.address).unwrap_err();
    assert_eq!(fixture.wait_for("another first", error_at(closed.address)).count, 1);
}

#[test]
fn a_peer_is_reported_once() {
    let Some(mut fixture) = watching("a_peer_is_reported_once") else { return };
    let listener = TcpListener::bind((V4, 0)).unwrap();
    let server = listener.local_addr().unwrap();
    let marker = TcpListener::bind((V6, 0)).unwrap();
    let peers = [server, marker.local_addr().unwrap()];
    let mut connected = |peer: SocketAddr| {
        TcpStream::connect(peer).unwrap();
        fixture.wait_for("connection", |record| {
            if let Record::Connect(it) = record {
                Some(it).filter(|it| peers.contains(&it.remote))
            } else {
                None
            }
        })
    };
    let first = connected(server);
    assert_eq!((first.remote, first.owner.pid), (server, std::process::id()));
    assert!(first.owner.start_ns > 0 && first.netns.is_some());
    for _ in 0..3 {
        TcpStream::connect(server).unwrap();
    }
    assert_eq!(connected(peers[1]).remote, peers[1], "no record of the repeats to the first peer");
}

#[test]
fn a_full_accept_queue_is_reported() {
    let Some(mut fixture) = watching("a_full_accept_queue_is_reported") else { return };
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::new(V4, 0)).unwrap();
    rustix::net::listen(&socket, 2).unwrap();
    let address: SocketAddr = rustix::net::getsockname(&socket).unwrap().try_into().unwrap();
    let _waiting: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    let queue = fixture.wait_for("full queue", |record| {
        if let Record::AcceptQueue(it) = record { Some(it).filter(|it| it.local == address) } else { None }
    });
    assert_eq!((queue.waiting, queue.backlog), (3, 2));
    assert_eq!(queue.owner.pid, std::process::id());
}

#[test]
fn a_closed_udp_port_is_reported_with_the_cgroup_of_the_sender() {
    let Some(mut fixture) = watching("a_closed_udp_port_is_reported_with_the_cgroup_of_the_sender") else {
        return;
    };
    // The record of a listener has this process's cgroup.
    let listener = TcpListener::bind((V4, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let cgroups = fixture.wait_for("listener", |record| {
        if let Record::Listen(it) = record { Some(it.cgroups).filter(|_| it.port == port) } else { None }
    });
    let cgroup = cgroups.v2.unwrap();
    fixture.sensor.watch_cgroup(CgroupId::Unified(cgroup)).unwrap();
    let closed = UdpSocket::bind((V4, 0)).unwrap();
    let remote = closed.local_addr().unwrap();
    drop(closed);
    let socket = UdpSocket::bind((V4, 0)).unwrap();
    socket.connect(remote).unwrap();
    // A child that another test forks holds the closed socket until it executes its program.
    let deadline = Instant::now() + Duration::from_secs(10);
    while socket.send(b"x").is_ok() {
        assert!(Instant::now() < deadline, "nothing refuses it");
    }
    let error = fixture.wait_for("refusal", error_at(remote));
    assert_eq!((error.errno, error.protocol, error.transition), (111, Protocol::Udp, None));
    assert_eq!((error.direction, error.owner), (Direction::Outbound, None));
    assert_eq!((error.cgroups.v2, error.local), (Some(cgroup), socket.local_addr().unwrap()));
}

#[test]
fn errors_at_many_peers_are_throttled_and_counted() {
    let Some(mut fixture) = watching("errors_at_many_peers_are_throttled_and_counted") else { return };
    let port = ClosedPort::new(V4).address.port();
    for last in 1..=200 {
        let _ = TcpStream::connect((Ipv4Addr::new(127, 9, 9, last), port));
    }
    let mut records = Vec::new();
    fixture.sensor.drain(&mut records);
    let reported = records.into_iter().filter(|it| {
        matches!(it, Record::SocketError(error) if error.remote.port() == port && error.remote.ip() != V4)
    });
    let reported = reported.count();
    let lost: u64 = fixture
        .sensor
        .losses()
        .iter()
        .filter(|it| it.class == LossClass::SocketErrorThrottled)
        .map(|it| it.count)
        .sum();
    // A new second may begin meanwhile.
    assert!(reported <= 150 && lost >= 50, "{reported} reported, {lost} lost");
}
