use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::*;
use crate::{
    enrich::Members,
    fact::{Membership, Protocol, Source, TcpState},
    host::ProcReader,
};

const WEB: ServiceId = ServiceId(0);
const CACHE: ServiceId = ServiceId(1);
const FAR: ServiceId = ServiceId(2);

/// A pid that no process has: they end at 2²².
const MAIN: Owner = Owner { pid: 5_000_000, parent_pid: 1, start_ns: 7_000_000_000 };

/// `web`, whose main process is known; `cache`, which is expected on port 6379; and `far`, which is elsewhere.
fn enricher() -> Enricher {
    let mut members = Members::default();
    members.set_main(WEB, Some(key(&MAIN)));
    members.expect_ports(WEB, BTreeSet::from([8080]));
    members.expect_ports(CACHE, BTreeSet::from([6379]));
    members.expect_elsewhere(FAR, BTreeSet::from([address("198.51.100.9:443")]));
    Enricher::new(ProcReader::new("/").unwrap(), members).unwrap()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn refused(owner: Option<Owner>, remote: &str) -> record::SocketError {
    let mut record = record::SocketError::example();
    record.owner = owner;
    record.remote = address(remote);
    record
}

#[test]
fn an_error_belongs_to_the_service_of_its_owner() {
    let mut enricher = enricher();
    let (error, service) = enricher.socket_error(&refused(Some(MAIN), "127.0.0.1:6379")).unwrap();
    assert_eq!((service, error.peer), (WEB, Peer::Service(CACHE)));
    assert_eq!(error.transition, Some((TcpState::SynSent, TcpState::Close)));
    assert_eq!((error.errno, error.protocol, error.count), (111, Protocol::Tcp, 1));
    assert_eq!((error.process, error.age), (Some(key(&MAIN)), Some(Duration::from_micros(50))));

    let worker = Owner { pid: 5_000_001, parent_pid: MAIN.pid, start_ns: 8_000_000_000 };
    assert_eq!(enricher.socket_error(&refused(Some(worker), "127.0.0.1:6379")).unwrap().1, WEB);
    let unwatched = Owner { parent_pid: 1, ..worker };
    assert_eq!(enricher.socket_error(&refused(Some(unwatched), "127.0.0.1:6379")), None);
}

#[test]
fn what_is_only_probed_may_be_on_this_host() {
    let mut enricher = enricher();
    enricher.members.expect_elsewhere(FAR, BTreeSet::from([address("127.0.0.1:7000")]));
    let mut peer = |remote: &str, netns| enricher.peer(address(remote), netns);
    assert_eq!(peer("127.0.0.1:7000", None), Peer::Service(FAR));
    assert_eq!(peer("127.0.0.1:7001", None), Peer::Local);
    assert_eq!(peer("127.0.0.1:7000", Some(1)), Peer::Local, "it is the loopback of another namespace");
}

#[test]
fn the_daemons_own_errors_belong_to_no_service() {
    let mut enricher = enricher();
    let own = Owner { pid: std::process::id(), parent_pid: MAIN.pid, start_ns: 1 };
    assert_eq!(enricher.socket_error(&refused(Some(own), "127.0.0.1:6379")), None);
}

#[test]
fn without_an_owner_the_local_port_of_a_server_gives_the_service() {
    let mut enricher = enricher();
    let mut record = refused(None, "127.0.0.1:50000");
    record.direction = Direction::Inbound;
    record.local = address("127.0.0.1:6379");
    let (error, service) = enricher.socket_error(&record).unwrap();
    assert_eq!((service, error.peer, error.process), (CACHE, Peer::Local, None));
    record.remote = address("203.0.113.5:50000");
    assert_eq!(enricher.socket_error(&record).unwrap().0.peer, Peer::Remote);
    // The init process listens for it.
    record.owner = Some(Owner { pid: 1, parent_pid: 0, start_ns: 0 });
    let (error, service) = enricher.socket_error(&record).unwrap();
    assert_eq!((service, error.process), (CACHE, None));
    // The same port means another thing in another network namespace, and so does a client's.
    record.netns = Some(1);
    assert_eq!(enricher.socket_error(&record), None);
    record.netns = None;
    record.direction = Direction::Outbound;
    assert_eq!(enricher.socket_error(&record), None);
}

#[test]
fn the_sum_of_several_has_no_age() {
    let mut record = refused(Some(MAIN), "127.0.0.1:6379");
    record.count = 7;
    let (error, _) = enricher().socket_error(&record).unwrap();
    assert_eq!((error.count, error.age), (7, None));
}

#[test]
fn a_peer_is_a_service_by_its_address() {
    let mut enricher = enricher();
    let own = enricher.network.netns;
    let mut peer = |remote: &str, netns| enricher.peer(address(remote), netns);
    assert_eq!(peer("127.0.0.1:6379", own), Peer::Service(CACHE));
    assert_eq!(peer("[::1]:6379", own), Peer::Service(CACHE));
    assert_eq!(peer("127.0.0.1:1", own), Peer::Local);
    assert_eq!(peer("127.0.0.1:6379", Some(1)), Peer::Local, "a loopback of its own");
    assert_eq!(peer("198.51.100.9:443", own), Peer::Service(FAR));
    assert_eq!(peer("198.51.100.9:80", own), Peer::Remote);
    assert_eq!(peer("203.0.113.5:6379", own), Peer::Remote, "the port is not on this host");

    // The service that last listened on a port is there, expected or not.
    enricher.members.serves(WEB, 6379);
    assert_eq!(enricher.peer(address("127.0.0.1:6379"), own), Peer::Service(WEB));
    enricher.network.addresses = BTreeSet::from([IpAddr::V4(Ipv4Addr::new(203, 0, 113, 5))]);
    assert_eq!(enricher.peer(address("203.0.113.5:6379"), own), Peer::Service(WEB));
    assert_eq!(enricher.peer(address("203.0.113.5:6379"), Some(1)), Peer::Service(WEB));
}

#[test]
fn a_death_names_the_service_of_who_caused_it() {
    let mut enricher = enricher();
    enricher.members.add_cgroup(CACHE, 77);
    let sender = |pid, start_ns, cgroup_v2| {
        let sender = record::Sender { pid, uid: 0, start_ns, cgroup_v2, comm: String::new() };
        Some(record::Signal {
            at_ns: 9_000_000_000,
            number: 9,
            code: 0,
            context_pid: sender.pid,
            sender: Some(sender),
        })
    };
    let mut record = record::Exit {
        at_ns: 9_000_000_001,
        source: Source::Ebpf,
        start_ns: 1_000_000_000,
        pid: 5_000_009,
        parent_pid: 1,
        namespaced_pid: None,
        lineage: None,
        uid: 0,
        status: record::Status(Some(9)),
        oom_victim: false,
        watched: true,
        child_of_init: false,
        namespace_init: false,
        max_rss_pages: 1,
        cgroups: Cgroups::default(),
        comm: "victim".to_owned(),
        signal: sender(MAIN.pid, MAIN.start_ns, None),
    };
    let mut cause = |record: &record::Exit| {
        let (mut exit, _) = enricher.exit(record).unwrap();
        enricher.read_sender(&mut exit, record, Membership { service: CACHE, main: false });
        exit.sender_service
    };
    assert_eq!(cause(&record), Some(WEB));
    record.signal = sender(5_000_002, 3, Some(77));
    assert_eq!(cause(&record), Some(CACHE));
    record.signal = sender(5_000_002, 3, Some(1));
    assert_eq!(cause(&record), None);
}
