use std::net::{IpAddr, Ipv4Addr};

use super::{wire::*, *};
use crate::{
    fact::{Direction, Protocol, TcpState},
    sensor::record::{AcceptQueue, Cgroups, Connect, Owner, SocketError},
};

const WEB: Owner = Owner { pid: 4242, parent_pid: 1, start_ns: 1_000 };

#[test]
fn decodes_a_socket_error() {
    let Ok(Record::SocketError(error)) = decode(&socket_error_bytes()) else { panic!("not an error") };
    let expected = SocketError {
        at_ns: 9_000,
        source: Source::Ebpf,
        errno: 111,
        transition: Some((TcpState::SynSent, TcpState::Close)),
        protocol: Protocol::Tcp,
        direction: Direction::Outbound,
        local: "127.0.0.1:50000".parse().unwrap(),
        remote: "192.0.2.7:5432".parse().unwrap(),
        owner: Some(WEB),
        cgroups: Cgroups { v2: Some(77), memory_v1: None },
        netns: Some(4_026_531_840),
        since_ns: Some(8_500),
        count: 1,
        kind: error.kind,
    };
    assert_eq!(error, expected);
    // The kind is the key as it stands in the record.
    let key: Vec<u8> = error.kind.iter().flat_map(|word| word.to_ne_bytes()).collect();
    assert_eq!(key, socket_error_bytes()[16..48]);

    let mut bytes = socket_error_bytes();
    bytes[46] = 2; // key.direction: inbound
    bytes[44..46].fill(0); // key.from, key.to
    bytes[42] = 17; // key.protocol: UDP
    bytes[96..100].fill(0); // tgid
    let Ok(Record::SocketError(error)) = decode(&bytes) else { panic!("not an error") };
    assert_eq!((error.direction, error.protocol), (Direction::Inbound, Protocol::Udp));
    assert_eq!((error.transition, error.owner), (None, None));
    bytes[46] = 3;
    assert_eq!(decode(&bytes), Err(DecodeError::Direction(3)));
}

#[test]
fn decodes_a_connection() {
    let Ok(Record::Connect(connect)) = decode(&connect_bytes()) else { panic!("not a connection") };
    let cgroups = Cgroups { v2: Some(77), memory_v1: None };
    // An IPv4 address of an IPv6 socket is unmapped.
    let remote = "192.0.2.7:5432".parse().unwrap();
    let expected = Connect {
        at_ns: 9_000,
        source: Source::Ebpf,
        owner: WEB,
        cgroups,
        remote,
        netns: Some(4_026_531_840),
    };
    assert_eq!(connect, expected);
}

#[test]
fn decodes_a_full_accept_queue() {
    let Ok(Record::AcceptQueue(queue)) = decode(&accept_queue_bytes()) else { panic!("not a queue") };
    let expected = AcceptQueue {
        at_ns: 9_000,
        source: Source::Ebpf,
        owner: WEB,
        cgroups: Cgroups { v2: Some(77), memory_v1: Some(55) },
        local: "[::]:8080".parse().unwrap(),
        waiting: 129,
        backlog: 128,
        netns: Some(4_026_531_840),
    };
    assert_eq!(queue, expected);
}

#[test]
fn decodes_a_listener() {
    let Ok(Record::Listen(listen)) = decode(&listen_bytes()) else { panic!("not a listener") };
    assert_eq!(
        listen,
        Listen {
            at_ns: 9_000,
            source: Source::Ebpf,
            up: true,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8080,
            pid: 4242,
            start_ns: 1_000,
            cgroups: Cgroups { v2: Some(77), memory_v1: None },
            comm: "nginx".to_owned(),
        }
    );
    let mut bytes = listen_bytes();
    bytes[48] = 10; // family: IPv6
    assert!(matches!(decode(&bytes), Ok(Record::Listen(Listen { address: IpAddr::V6(_), .. }))));
    bytes[48] = 3;
    assert_eq!(decode(&bytes), Err(DecodeError::Family(3)));
}
