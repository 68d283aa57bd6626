//! Every record as bytes, spelled out field by field, so that neither side can move a field unnoticed.

/// Appends values in order, as the eBPF programs write them.
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

    /// Text in a buffer of `room` bytes. The unused end may hold anything.
    fn text(mut self, text: &str, room: usize) -> Self {
        let end = self.0.len() + room;
        self.0.extend(text.as_bytes());
        self.0.push(0);
        self.0.resize(end, b'#');
        self
    }
}

pub fn exit_bytes() -> Vec<u8> {
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

pub fn oom_bytes() -> Vec<u8> {
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

pub fn exec_bytes() -> Vec<u8> {
    Wire::default()
        .u32(3) // header.kind
        .u32(984) // header.size
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
        .u32(4_026_531_836) // pid_namespace
        .u32(0) // pad
        .text("sh", 16) // comm
        .text("/bin/sh", 256) // filename
        .text("sh\0-c\0ls -", 640) // argv, cut off in the last argument
        .0
}

pub fn listen_bytes() -> Vec<u8> {
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

pub fn socket_error_bytes() -> Vec<u8> {
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

pub fn connect_bytes() -> Vec<u8> {
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

pub fn accept_queue_bytes() -> Vec<u8> {
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

pub fn stop_bytes() -> Vec<u8> {
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

/// Of two frames: one in a file, and one at an address.
pub fn crash_bytes() -> Vec<u8> {
    let mut wire = Wire::default()
        .u32(16) // header.kind
        .u32(1168) // header.size
        .u64(9_000) // header.at_ns
        .u64(1_000) // start_ns
        .u32(4242) // tgid
        .u32(64) // stack_bytes
        .u64(9_000) // signal.at_ns
        .u64(1_000) // signal.sender_start_ns
        .u64(78) // signal.sender_cgroup_v2
        .u32(11) // signal.signal
        .u32(1) // signal.code
        .u32(4242) // signal.sender_tgid
        .u32(33) // signal.sender_uid
        .u32(2) // signal.origin
        .u32(0) // signal.pad
        .text("worker", 16) // signal.sender_comm
        .u64(0x10) // address
        .u64(4) // fault_code
        .u64(14) // trap
        .u64(0x5555_1180) // instruction
        .u64(0x7ffd_0000) // stack_pointer
        .u64(0) // return_address
        .u32(1); // frames[0].status
    for digit in 0..20 {
        wire = wire.u8(digit); // frames[0].build_id
    }
    wire = wire
        .u64(0x1180) // frames[0].place
        .u32(2) // frames[1].status
        .u64(0) // frames[1].build_id
        .u64(0)
        .u32(0)
        .u64(0x5555_2345); // frames[1].place
    // Stale memory.
    wire.0.resize(1168, b'#');
    wire.0
}

pub fn crash_memory_bytes() -> Vec<u8> {
    let mut wire = Wire::default()
        .u32(17) // header.kind
        .u32(8248) // header.size
        .u64(8_999) // header.at_ns
        .u32(4242) // tgid
        .u32(16) // length
        .u64(0x5555_1180) // instruction
        .u64(0x7ffd_0000) // stack_pointer
        .u64(0x7ffd_0040) // frame_pointer
        .u64(0) // link
        .u64(1) // bytes
        .u64(0x5555_2345);
    // Stale memory.
    wire.0.resize(8248, b'#');
    wire.0
}

pub fn cgroup_bytes() -> Vec<u8> {
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

/// The beginning that all faults of the host have in common.
fn fault(kind: u32, size: u32, subject: u64, fault: u32, variant: u32) -> Wire {
    Wire::default()
        .u32(kind) // header.kind
        .u32(size) // header.size
        .u64(9_000) // header.at_ns
        .u64(subject) // key.subject
        .u64(0)
        .u32(fault) // key.fault
        .u32(variant) // key.variant
}

pub fn hung_task_bytes(tid: u32) -> Vec<u8> {
    fault(11, 104, 0x7265_6b72_6f77, 1, 0)
        .u64(1_000) // start_ns
        .u64(77) // cgroup_v2
        .u64(0) // cgroup_mem_v1
        .u32(4242) // tgid
        .u32(tid) // tid
        .text("server", 16) // comm
        .text("worker", 16) // thread_comm
        .0
}

pub fn block_error_bytes() -> Vec<u8> {
    fault(12, 96, 0xffff_8000_1234_5678, 2, 1 | 7 << 8)
        .u64(2048) // sector
        .u32(4096) // bytes
        .u32(1) // operation: a write
        .u32(7) // status: of the medium
        .u32(0) // pad
        .text("nvme0n1", 32) // disk
        .0
}

pub fn file_system_error_bytes(number: u32, flags: u32) -> Vec<u8> {
    fault(13, 168, 0xffff_8000_1234_5678, number, 0)
        .u32(8 << 20 | 1) // device
        .u32(1455) // line
        .u32(flags) // flags
        .u32(4242) // tgid
        .text("ls", 16) // comm
        .text("sda1", 32) // target
        .text("ext4_find_entry", 64) // place
        .0
}

pub fn machine_check_bytes(status: u64) -> Vec<u8> {
    fault(14, 64, 3, 5, 0)
        .u64(status) // status
        .u64(0x1234_5000) // address
        .u32(3) // cpu
        .u32(4) // bank
        .0
}

pub fn memory_error_bytes() -> Vec<u8> {
    fault(15, 192, 1, 6, 0)
        .u64(0x1234_5000) // address
        .u32(2) // errors
        .u32(1) // severity
        .u32(1) // controller
        .u32(0) // pad
        .text("DIMM_A1", 64) // label
        .text("memory read error", 64) // message
        .0
}

pub fn all() -> [Vec<u8>; 15] {
    [
        crash_bytes(),
        cgroup_bytes(),
        exit_bytes(),
        oom_bytes(),
        exec_bytes(),
        listen_bytes(),
        socket_error_bytes(),
        connect_bytes(),
        accept_queue_bytes(),
        stop_bytes(),
        hung_task_bytes(4242),
        block_error_bytes(),
        file_system_error_bytes(3, 0),
        machine_check_bytes(1 << 61),
        memory_error_bytes(),
    ]
}
