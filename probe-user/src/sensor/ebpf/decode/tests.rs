//! Golden bytes: every record spelled out field by field, so that neither side can move a field unnoticed.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::{
    fact::{Direction, Protocol, TcpState},
    sensor::record::{AcceptQueue, Connect, Owner, SocketError},
};

/// Appends values in order; what this builds is what the kernel side writes.
#[derive(Default)]
struct Wire(Vec<u8>);

impl Wire {
    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    /// Text in a buffer of `room` bytes, followed by what an unused end may hold: anything.
    fn text(mut self, text: &str, room: usize) -> Self {
        let end = self.0.len() + room;
        self.0.extend(text.as_bytes());
        self.0.push(0);
        self.0.resize(end, b'#');
        self
    }
}

fn exit_bytes() -> Vec<u8> {
    Wire::default()
        .u32(1) // header.kind
        .u32(160) // header.size
        .u64(9_000) // header.at_ns
        .u64(1_000) // start_ns
        .u64(77) // cgroup_v2
        .u64(0) // cgroup_mem_v1
        .u64(512) // max_rss_pages
        .u32(4242) // tgid
        .u32(1) // ppid
        .u32(33) // uid
        .u32(0x8b) // status: SIGSEGV with a core
        .u32(1 | 2 | 4 | 8) // flags
        .u32(7) // ns_pid
        .u32(3) // lineage
        .u32(0) // pad
        .text("nginx", 16) // comm
        .u64(8_500) // signal.at_ns
        .u64(500) // signal.sender_start_ns
        .u64(78) // signal.sender_cgroup_v2
        .u32(11) // signal.signal
        .u32(0) // signal.code
        .u32(99) // signal.sender_tgid
        .u32(1000) // signal.sender_uid
        .u32(1) // signal.origin
        .u32(0) // signal.pad
        .text("kill", 16) // signal.sender_comm
        .0
}

fn oom_bytes() -> Vec<u8> {
    let mut wire = Wire::default()
        .u32(2) // header.kind
        .u32(272) // header.size
        .u64(9_000) // header.at_ns
        .u64(1_000) // start_ns
        .u64(1) // cgroup_v2
        .u64(55) // cgroup_mem_v1
        .u64(100) // anon_pages
        .u64(200) // file_pages
        .u64(300) // shmem_pages
        .u64(400) // swap_pages
        .u64(0x0007_ffff_ffff_ffff) // limit_pages[0], unlimited
        .u64(7680) // limit_pages[1]
        .u64(9000) // limit_pages[2]
        .u64(0x0007_ffff_ffff_ffff) // limit_pages[3], the root
        .u64(0) // limit_pages[4]
        .u64(0) // limit_pages[5]
        .u64(0xffff_ffff_8100_0001) // stack[0]
        .u64(0xffff_ffff_8100_0002); // stack[1]
    for _ in 2..12 {
        wire = wire.u64(0); // stack[2..]
    }
    wire.u32(4242) // tgid
        .u32(4243) // tid
        .u32(33) // uid
        .u32(-500_i32 as u32) // score_adj
        .u32(5) // trigger_tgid
        .u32(32) // flags
        .text("redis", 16) // comm
        .text("python3", 16) // trigger_comm
        .0
}

fn exec_bytes() -> Vec<u8> {
    Wire::default()
        .u32(3) // header.kind
        .u32(976) // header.size
        .u64(9_000) // header.at_ns
        .u64(1_000) // start_ns
        .u64(77) // cgroup_v2
        .u64(0) // cgroup_mem_v1
        .u32(4242) // tgid
        .u32(1) // ppid
        .u32(0) // uid
        .u32(2 | 16) // flags
        .u32(7) // filename_len
        .u32(10) // argv_len
        .text("sh", 16) // comm
        .text("/bin/sh", 256) // filename
        .text("sh\0-c\0ls -", 640) // argv, cut off in the last argument
        .0
}

fn listen_bytes() -> Vec<u8> {
    Wire::default()
        .u32(4) // header.kind
        .u32(88) // header.size
        .u64(9_000) // header.at_ns
        .u64(1_000) // start_ns
        .u64(77) // cgroup_v2
        .u64(0) // cgroup_mem_v1
        .u32(4242) // tgid
        .u32(1) // up
        .u16(2) // family
        .u16(8080) // port
        .u32(0) // pad
        .u32(u32::from_ne_bytes([127, 0, 0, 1])) // addr[0..4]
        .u32(0) // addr[4..8]
        .u64(0) // addr[8..16]
        .text("nginx", 16) // comm
        .0
}

fn socket_error_bytes() -> Vec<u8> {
    Wire::default()
        .u32(5) // header.kind
        .u32(112) // header.size
        .u64(9_000) // header.at_ns
        .u32(u32::from_ne_bytes([192, 0, 2, 7])) // key.addr[0..4]
        .u32(0) // key.addr[4..8]
        .u64(0) // key.addr[8..16]
        .u32(4242) // key.owner
        .u16(5432) // key.port
        .u16(2) // key.family
        .u16(111) // key.errno
        .u16(6) // key.protocol
        .u8(2) // key.from: SYN_SENT
        .u8(7) // key.to: CLOSE
        .u8(1) // key.direction: outbound
        .u8(0) // key.pad
        .u64(1_000) // start_ns
        .u64(77) // cgroup_v2
        .u64(0) // cgroup_mem_v1
        .u64(8_500) // since_ns
        .u32(u32::from_ne_bytes([127, 0, 0, 1])) // local_addr[0..4]
        .u32(0) // local_addr[4..8]
        .u64(0) // local_addr[8..16]
        .u32(4242) // tgid
        .u32(4_026_531_840) // netns
        .u16(50_000) // local_port
        .u16(5432) // remote_port
        .u32(1) // ppid
        .0
}

fn connect_bytes() -> Vec<u8> {
    Wire::default()
        .u32(6) // header.kind
        .u32(72) // header.size
        .u64(9_000) // header.at_ns
        .u64(0) // peer.addr[0..8]
        .u16(0) // peer.addr[8..10]
        .u16(0xffff) // peer.addr[10..12]: IPv4, mapped
        .u32(u32::from_ne_bytes([192, 0, 2, 7])) // peer.addr[12..16]
        .u32(4242) // peer.tgid
        .u16(5432) // peer.port
        .u16(10) // peer.family
        .u64(1_000) // start_ns
        .u64(77) // cgroup_v2
        .u64(0) // cgroup_mem_v1
        .u32(4_026_531_840) // netns
        .u32(1) // ppid
        .0
}

fn accept_queue_bytes() -> Vec<u8> {
    Wire::default()
        .u32(7) // header.kind
        .u32(80) // header.size
        .u64(9_000) // header.at_ns
        .u64(1_000) // start_ns
        .u64(77) // cgroup_v2
        .u64(55) // cgroup_mem_v1
        .u64(0) // addr[0..8]
        .u64(0) // addr[8..16]
        .u32(4242) // tgid
        .u32(129) // waiting
        .u32(128) // backlog
        .u32(4_026_531_840) // netns
        .u16(10) // family
        .u16(8080) // port
        .u32(1) // ppid
        .0
}

fn stop_bytes() -> Vec<u8> {
    Wire::default()
        .u32(8) // header.kind
        .u32(96) // header.size
        .u64(9_000) // header.at_ns
        .u64(1_000) // start_ns
        .u32(4242) // tgid
        .u32(0) // pad
        .u64(9_000) // signal.at_ns
        .u64(500) // signal.sender_start_ns
        .u64(78) // signal.sender_cgroup_v2
        .u32(19) // signal.signal
        .u32(0) // signal.code
        .u32(99) // signal.sender_tgid
        .u32(1000) // signal.sender_uid
        .u32(1) // signal.origin
        .u32(0) // signal.pad
        .text("kill", 16) // signal.sender_comm
        .0
}

fn cgroup_bytes() -> Vec<u8> {
    Wire::default()
        .u32(9) // header.kind
        .u32(544) // header.size
        .u64(9_000) // header.at_ns
        .u64(77) // id
        .u32(4) // hierarchy
        .u32(12) // path_len
        .text("/docker/0123", 512) // path
        .0
}

fn all() -> [Vec<u8>; 9] {
    [
        cgroup_bytes(),
        exit_bytes(),
        oom_bytes(),
        exec_bytes(),
        listen_bytes(),
        socket_error_bytes(),
        connect_bytes(),
        accept_queue_bytes(),
        stop_bytes(),
    ]
}

const WEB: Owner = Owner { pid: 4242, parent_pid: 1, start_ns: 1_000 };

#[test]
fn socket_error() {
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
    // What makes others the same is the key as it stands in the record.
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
fn connect() {
    let Ok(Record::Connect(connect)) = decode(&connect_bytes()) else { panic!("not a connection") };
    let cgroups = Cgroups { v2: Some(77), memory_v1: None };
    // IPv4 over an IPv6 socket is IPv4.
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
fn accept_queue() {
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
fn cgroup() {
    let path = "/docker/0123".to_owned();
    let made = CgroupMade { at_ns: 9_000, id: 77, hierarchy: 4, path };
    assert_eq!(decode(&cgroup_bytes()), Ok(Record::Cgroup(made)));
    let mut bytes = cgroup_bytes();
    bytes[28..32].copy_from_slice(&511_u32.to_ne_bytes()); // path_len
    let cut = CgroupMade { at_ns: 9_000, id: 77, hierarchy: 4, path: String::new() };
    assert_eq!(decode(&bytes), Ok(Record::Cgroup(cut)));
    bytes[28..32].copy_from_slice(&513_u32.to_ne_bytes()); // path_len
    assert_eq!(decode(&bytes), Err(DecodeError::Length { length: 513, room: 512 }));
}

#[test]
fn stop() {
    let Ok(Record::Stop(stop)) = decode(&stop_bytes()) else { panic!("not a stop") };
    let sender = Sender { pid: 99, uid: 1000, start_ns: 500, cgroup_v2: Some(78), comm: "kill".to_owned() };
    let signal = Signal { at_ns: 9_000, number: 19, code: 0, sender: Some(sender) };
    assert_eq!(stop, Stop { at_ns: 9_000, pid: 4242, start_ns: 1_000, signal });
    let mut bytes = stop_bytes();
    bytes[56] = 0; // signal.signal
    assert_eq!(decode(&bytes), Err(DecodeError::NoSignal));
}

#[test]
fn exit() {
    let Ok(Record::Exit(exit)) = decode(&exit_bytes()) else { panic!("not an exit") };
    let sender = Sender { pid: 99, uid: 1000, start_ns: 500, cgroup_v2: Some(78), comm: "kill".to_owned() };
    assert_eq!(
        exit,
        Exit {
            at_ns: 9_000,
            source: Source::Ebpf,
            start_ns: 1_000,
            pid: 4242,
            parent_pid: 1,
            namespaced_pid: Some(7),
            lineage: Some(3),
            uid: 33,
            status: Status(Some(0x8b)),
            oom_victim: true,
            watched: true,
            child_of_init: true,
            namespace_init: true,
            max_rss_pages: 512,
            cgroups: Cgroups { v2: Some(77), memory_v1: None },
            comm: "nginx".to_owned(),
            signal: Some(Signal { at_ns: 8_500, number: 11, code: 0, sender: Some(sender) }),
        }
    );
    assert_eq!((exit.status.signal(), exit.status.core_dumped(), exit.status.code()), (Some(11), true, None));
    assert_eq!(Status(Some(7 << 8)).code(), Some(7));
    assert_eq!(Status(Some(7 << 8)).signal(), None);
}

#[test]
fn a_signal_from_the_kernel_has_no_sender() {
    let mut bytes = exit_bytes();
    bytes[136] = 2; // signal.origin
    let Ok(Record::Exit(exit)) = decode(&bytes) else { panic!("not an exit") };
    assert_eq!(exit.signal.unwrap().sender, None);
    bytes[120] = 0; // signal.signal
    let Ok(Record::Exit(exit)) = decode(&bytes) else { panic!("not an exit") };
    assert_eq!(exit.signal, None);
}

#[test]
fn oom() {
    let Ok(Record::Oom(oom)) = decode(&oom_bytes()) else { panic!("not an OOM kill") };
    assert_eq!(
        oom,
        Oom {
            at_ns: 9_000,
            source: Source::Ebpf,
            start_ns: 1_000,
            pid: Some(4242),
            tid: 4243,
            uid: 33,
            score_adj: -500,
            anon_pages: 100,
            file_pages: 200,
            shmem_pages: 300,
            swap_pages: 400,
            limit_pages: Some(7680),
            cgroups: Cgroups { v2: Some(1), memory_v1: Some(55) },
            comm: "redis".to_owned(),
            trigger_pid: 5,
            trigger_comm: "python3".to_owned(),
            scope: OomScope::Unknown,
            stack: vec![0xffff_ffff_8100_0001, 0xffff_ffff_8100_0002],
        }
    );
}

#[test]
fn exec() {
    let Ok(Record::Exec(exec)) = decode(&exec_bytes()) else { panic!("not an exec") };
    assert_eq!(
        exec,
        Exec {
            at_ns: 9_000,
            source: Source::Ebpf,
            pid: 4242,
            image: Some(Image {
                start_ns: 1_000,
                parent_pid: 1,
                uid: 0,
                watched: true,
                cgroups: Cgroups { v2: Some(77), memory_v1: None },
                comm: "sh".to_owned(),
                filename: "/bin/sh".to_owned(),
                arguments: vec!["sh".to_owned(), "-c".to_owned(), "ls -".to_owned()],
                arguments_truncated: true,
            }),
        }
    );
}

#[test]
fn arguments_keep_empty_ones() {
    assert_eq!(arguments(b""), [""; 0]);
    assert_eq!(arguments(b"\0"), [""; 0]);
    assert_eq!(arguments(b"a\0\0b\0"), ["a", "", "b"]);
    assert_eq!(arguments(b"a\0\0"), ["a", ""]);
    assert_eq!(arguments(b"\xff\0"), ["\u{fffd}"]);
}

#[test]
fn listen() {
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

#[test]
fn every_truncation_is_an_error() {
    for whole in all() {
        for length in 0..whole.len() {
            assert!(decode(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(matches!(decode(&longer), Err(DecodeError::Size { .. })));
    }
}

#[test]
fn garbage_is_an_error_or_a_record_but_never_a_panic() {
    assert_eq!(decode(&[0xff; 152]), Err(DecodeError::Kind(u32::MAX)));
    let mut state = 1_u64;
    for whole in all() {
        for _ in 0..2_000 {
            let mut bytes = whole.clone();
            for _ in 0..4 {
                // A fixed sequence, so that a failure repeats.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let place = usize::try_from(state >> 33).unwrap() % bytes.len();
                bytes[place] = (state >> 24) as u8;
            }
            let _ = decode(&bytes);
        }
    }
    let mut bytes = exec_bytes();
    bytes[56..60].copy_from_slice(&257_u32.to_ne_bytes()); // filename_len
    assert_eq!(decode(&bytes), Err(DecodeError::Length { length: 257, room: 256 }));
}
