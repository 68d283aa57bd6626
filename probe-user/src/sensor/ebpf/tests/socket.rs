//! Sockets: how they fail, and who is at both ends.

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
};

mod namespace;

/// With this very process watched, which is the one that connects.
fn watching(test: &str) -> Option<Lab> {
    let mut lab = lab(test)?;
    lab.kernel.watch_process(std::process::id(), 1).unwrap();
    Some(lab)
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

/// A port that nobody listens on; kept from others by a socket that is bound and does not listen.
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
fn a_refused_connection_is_its_owners() {
    let Some(mut lab) = watching("a_refused_connection_is_its_owners") else { return };
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
        let error = lab.wait_for("refusal", error_at(closed.address));
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
fn a_reset_is_told_at_the_end_that_did_not_cause_it() {
    let Some(mut lab) = watching("a_reset_is_told_at_the_end_that_did_not_cause_it") else { return };
    let listener = TcpListener::bind((V4, 0)).unwrap();
    let server = listener.local_addr().unwrap();

    // The server gives up: the client is the one to suffer.
    let client = TcpStream::connect(server).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    abort(accepted);
    let error = lab.wait_for("reset of a client", error_at(server));
    assert_eq!((error.errno, error.direction), (104, Direction::Outbound));
    assert_eq!(error.transition, Some((TcpState::Established, TcpState::Close)));
    assert_eq!((error.owner.unwrap().pid, error.local), (std::process::id(), client.local_addr().unwrap()));

    // The client gives up: the server is who listens, whoever was interrupted meanwhile.
    let client = TcpStream::connect(server).unwrap();
    let there = client.local_addr().unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    abort(client);
    let error = lab.wait_for("reset of a server", error_at(there));
    assert_eq!((error.errno, error.direction), (104, Direction::Inbound));
    assert_eq!((error.local, error.owner.unwrap().pid), (server, std::process::id()));
    assert_eq!(error.since_ns, None);
    assert_eq!(accepted.read(&mut [0]).unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
}

/// Closes a connection so that the other side is told of a failure.
fn abort(stream: TcpStream) {
    sockopt::set_socket_linger(stream.as_fd(), Some(Duration::ZERO)).unwrap();
}

#[test]
fn an_orderly_end_and_a_strangers_failure_are_not_told() {
    let Some(mut lab) = lab("an_orderly_end_and_a_strangers_failure_are_not_told") else { return };
    let listener = TcpListener::bind((V4, 0)).unwrap();
    let server = listener.local_addr().unwrap();
    let stranger = ClosedPort::new(V4);
    TcpStream::connect(stranger.address).unwrap_err();

    lab.kernel.watch_process(std::process::id(), 1).unwrap();
    let mut client = TcpStream::connect(server).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    drop(accepted);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    drop(client);
    // A reset of one who has said goodbye is a common way to answer it.
    let mut client = TcpStream::connect(server).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    client.write_all(b"x").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    abort(accepted);

    let marker = ClosedPort::new(V4);
    TcpStream::connect(marker.address).unwrap_err();
    let known = [server, stranger.address, marker.address];
    let first = lab.wait_for("marker", |record| {
        if let Record::SocketError(error) = record {
            Some(error.remote).filter(|it| known.contains(it))
        } else {
            None
        }
    });
    assert_eq!(first, marker.address);
}

#[test]
fn a_watched_port_stands_for_a_listener_nobody_saw() {
    let listener = TcpListener::bind((V4, 0)).unwrap();
    let Some(mut lab) = lab("a_watched_port_stands_for_a_listener_nobody_saw") else { return };
    let server = listener.local_addr().unwrap();
    let reader = crate::host::ProcReader::new("/").unwrap();
    let netns = reader.netns(std::process::id()).unwrap();
    lab.kernel.watch_port(WatchedPort { netns, port: server.port() }).unwrap();
    let client = TcpStream::connect(server).unwrap();
    let there = client.local_addr().unwrap();
    let (_accepted, _) = listener.accept().unwrap();
    abort(client);
    let error = lab.wait_for("reset of a server", error_at(there));
    assert_eq!((error.owner, error.direction, error.local), (None, Direction::Inbound, server));
    assert_eq!(error.netns, Some(netns));
}

#[test]
fn the_probers_connections_are_not_told_at_either_end() {
    let options =
        Options { unwatched_per_second: u32::MAX, prober: std::process::id(), ..Options::default() };
    let test = "the_probers_connections_are_not_told_at_either_end";
    let Some(mut lab) = lab_with(test, &options) else { return };
    // The server is a process of its own; it says its port, accepts all and never reads.
    let code = "import socket, sys\ns = socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], \
                flush=True)\nkept = []\nwhile True: kept.append(s.accept())\n";
    let Ok(mut child) = Command::new("python3").args(["-c", code]).stdout(Stdio::piped()).spawn() else {
        assert!(std::env::var_os("CI").is_none(), "{test}: needs python3");
        eprintln!("skipped {test}: needs python3");
        return;
    };
    lab.kernel.watch_process(child.id(), 1).unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line)
        .unwrap();
    let server = SocketAddr::new(V4, line.trim().parse().unwrap());
    abort(TcpStream::connect(server).unwrap());

    // What another one does to the same server is told, and comes after.
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
    let first = lab.wait_for("reset of a server", |record| {
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
fn repeats_are_counted_and_summed_up() {
    let Some(mut lab) = watching("repeats_are_counted_and_summed_up") else { return };
    let closed = ClosedPort::new(V4);
    for _ in 0..20 {
        TcpStream::connect(closed.address).unwrap_err();
    }
    let first = lab.wait_for("refusal", error_at(closed.address));
    let mut rest = Vec::new();
    lab.kernel.drain(&mut rest);
    assert!(rest.into_iter().find_map(error_at(closed.address)).is_none(), "the others are only counted");

    // Nothing is summed up before its time.
    let mut after = |seconds: u64| {
        let now = Timestamp::from_nanos(first.at_ns).plus(Duration::from_secs(seconds));
        let sums = lab.kernel.repeated_errors(now.as_nanos());
        sums.into_iter().find(|it| it.remote == closed.address)
    };
    assert_eq!(after(5), None);
    let sum = after(11).unwrap();
    assert_eq!((sum.count, sum.errno, sum.owner), (19, 111, first.owner));
    assert!(sum.at_ns > first.at_ns);
    assert_eq!(after(15), None);
    // It has been quiet: the next one is a first.
    assert_eq!(after(30), None);
    TcpStream::connect(closed.address).unwrap_err();
    assert_eq!(lab.wait_for("another first", error_at(closed.address)).count, 1);
}

#[test]
fn connections_are_told_once() {
    let Some(mut lab) = watching("connections_are_told_once") else { return };
    let listener = TcpListener::bind((V4, 0)).unwrap();
    let server = listener.local_addr().unwrap();
    let marker = TcpListener::bind((V6, 0)).unwrap();
    let places = [server, marker.local_addr().unwrap()];
    let mut connected = |place: SocketAddr| {
        TcpStream::connect(place).unwrap();
        lab.wait_for("connection", |record| {
            if let Record::Connect(it) = record {
                Some(it).filter(|it| places.contains(&it.remote))
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
    assert_eq!(connected(places[1]).remote, places[1], "the others to the first place came before, untold");
}

#[test]
fn a_full_accept_queue_is_told() {
    let Some(mut lab) = watching("a_full_accept_queue_is_told") else { return };
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::new(V4, 0)).unwrap();
    rustix::net::listen(&socket, 2).unwrap();
    let address: SocketAddr = rustix::net::getsockname(&socket).unwrap().try_into().unwrap();
    let _waiting: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    let queue = lab.wait_for("full queue", |record| {
        if let Record::AcceptQueue(it) = record { Some(it).filter(|it| it.local == address) } else { None }
    });
    assert_eq!((queue.waiting, queue.backlog), (3, 2));
    assert_eq!(queue.owner.pid, std::process::id());
}

#[test]
fn a_closed_udp_port_is_told_by_the_cgroup_of_who_asked() {
    let Some(mut lab) = watching("a_closed_udp_port_is_told_by_the_cgroup_of_who_asked") else { return };
    // What this process's cgroup is, its own listener says.
    let listener = TcpListener::bind((V4, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let cgroups = lab.wait_for("listener", |record| {
        if let Record::Listen(it) = record { Some(it.cgroups).filter(|_| it.port == port) } else { None }
    });
    let cgroup = cgroups.v2.unwrap();
    lab.kernel.watch_cgroup(CgroupId::Unified(cgroup)).unwrap();
    let closed = UdpSocket::bind((V4, 0)).unwrap();
    let remote = closed.local_addr().unwrap();
    drop(closed);
    let socket = UdpSocket::bind((V4, 0)).unwrap();
    socket.connect(remote).unwrap();
    socket.send(b"x").unwrap();
    let error = lab.wait_for("refusal", error_at(remote));
    assert_eq!((error.errno, error.protocol, error.transition), (111, Protocol::Udp, None));
    assert_eq!((error.direction, error.owner), (Direction::Outbound, None));
    assert_eq!((error.cgroups.v2, error.local), (Some(cgroup), socket.local_addr().unwrap()));
}

#[test]
fn a_service_that_connects_everywhere_is_cut_off_and_counted() {
    let Some(mut lab) = watching("a_service_that_connects_everywhere_is_cut_off_and_counted") else { return };
    let port = ClosedPort::new(V4).address.port();
    for last in 1..=200 {
        let _ = TcpStream::connect((Ipv4Addr::new(127, 9, 9, last), port));
    }
    let mut records = Vec::new();
    lab.kernel.drain(&mut records);
    let told = records.into_iter().filter(|it| {
        matches!(it, Record::SocketError(error) if error.remote.port() == port && error.remote.ip() != V4)
    });
    let told = told.count();
    let lost: u64 =
        lab.kernel.losses().iter().filter(|it| it.class == "socket_error_throttled").map(|it| it.count).sum();
    // The second may turn in between.
    assert!(told <= 150 && lost >= 50, "{told} told, {lost} lost");
}
