use super::{wire::*, *};
use crate::{
    sensor::record::{Cgroups, CrashStack, Registers, StackFrame},
    stacks,
};

#[test]
fn decodes_an_exit() {
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
            signal: Some(Signal {
                at_ns: 8_500,
                number: 11,
                code: 0,
                context_pid: sender.pid,
                sender: Some(sender)
            }),
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
fn decodes_a_stop() {
    let Ok(Record::Stop(stop)) = decode(&stop_bytes()) else { panic!("not a stop") };
    let sender = Sender { pid: 99, uid: 1000, start_ns: 500, cgroup_v2: Some(78), comm: "kill".to_owned() };
    let signal = Signal { at_ns: 9_000, number: 19, code: 0, context_pid: sender.pid, sender: Some(sender) };
    assert_eq!(stop, ReceivedSignal { at_ns: 9_000, pid: 4242, start_ns: 1_000, signal });
    let mut bytes = stop_bytes();
    bytes[0] = 10; // header.kind
    assert_eq!(decode(&bytes), Ok(Record::CoreSignal(stop, None)));
    bytes[56] = 0; // signal.signal
    assert_eq!(decode(&bytes), Err(DecodeError::NoSignal));
}

#[test]
fn decodes_a_crash() {
    let Ok(Record::CoreSignal(received, Some(stack))) = decode(&crash_bytes()) else { panic!("not a crash") };
    let signal = Signal { at_ns: 9_000, number: 11, code: 1, context_pid: 4242, sender: None };
    assert_eq!(received, ReceivedSignal { at_ns: 9_000, pid: 4242, start_ns: 1_000, signal });
    let build_id = std::array::from_fn(|index| u8::try_from(index).unwrap());
    let registers = Registers { instruction: 0x5555_1180, stack_pointer: 0x7ffd_0000, return_address: None };
    assert_eq!(
        *stack,
        CrashStack {
            address: 0x10,
            fault_code: 4,
            trap: 14,
            thread_name: "worker".to_owned(),
            registers: Some(registers),
            frames: vec![StackFrame::File { build_id, offset: 0x1180 }, StackFrame::Address(0x5555_2345)],
        }
    );
}

#[test]
fn a_crash_without_a_stack_or_registers_is_still_one() {
    let mut bytes = crash_bytes();
    bytes[28..32].copy_from_slice(&(-14_i32).to_ne_bytes()); // stack_bytes
    bytes[128..136].fill(0); // stack_pointer
    let Ok(Record::CoreSignal(_, Some(stack))) = decode(&bytes) else { panic!("not a crash") };
    assert_eq!((stack.frames, stack.registers), (Vec::new(), None));
    bytes[28..32].copy_from_slice(&1056_i32.to_ne_bytes());
    assert_eq!(decode(&bytes), Err(DecodeError::Length { length: 1056, room: 1024 }));
}

#[test]
fn decodes_the_memory_of_a_stack_and_shows_none_of_it() {
    let Ok(Record::CrashMemory(memory)) = decode(&crash_memory_bytes()) else { panic!("no memory") };
    let registers = stacks::Registers {
        program_counter: 0x5555_1180,
        stack_pointer: 0x7ffd_0000,
        frame_pointer: 0x7ffd_0040,
        link: 0,
    };
    assert_eq!((memory.at_ns, memory.pid, memory.stack.registers), (8_999, 4242, registers));
    assert_eq!(memory.stack.bytes, [1_u64.to_ne_bytes(), 0x5555_2345_u64.to_ne_bytes()].concat());
    let shown = "CrashMemory { at_ns: 8999, pid: 4242, stack: StackCopy { length: 16, .. } }";
    assert_eq!(format!("{memory:?}"), shown);
    let mut bytes = crash_memory_bytes();
    bytes[20..24].copy_from_slice(&8193_u32.to_ne_bytes()); // length
    assert_eq!(decode(&bytes), Err(DecodeError::Length { length: 8193, room: 8192 }));
}

#[test]
fn decodes_an_oom_kill() {
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
            main_pid: None,
            comm: "redis".to_owned(),
            trigger_pid: 5,
            trigger_comm: "python3".to_owned(),
            scope: OomScope::Unknown,
            stack: vec![0xffff_ffff_8100_0001, 0xffff_ffff_8100_0002],
        }
    );
}

#[test]
fn decodes_an_exec() {
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
                pid_namespace: Some(4_026_531_836),
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
fn keeps_empty_arguments() {
    assert_eq!(arguments(b""), [""; 0]);
    assert_eq!(arguments(b"\0"), [""; 0]);
    assert_eq!(arguments(b"a\0\0b\0"), ["a", "", "b"]);
    assert_eq!(arguments(b"a\0\0"), ["a", ""]);
    assert_eq!(arguments(b"\xff\0"), ["\u{fffd}"]);
}

#[test]
fn decodes_a_cgroup_and_drops_a_truncated_path() {
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
