//! Where a process crashed: the record of a fault that ends it, taken in the thread that has the fault.
//!
//! A stack taken here is exact in its first frame. The others come from frame pointers, where the code keeps them. For code
//! that does not, the memory of the stack is copied as well.

use aya_ebpf::{
    EbpfContext as _, Global,
    bindings::{BPF_F_USER_BUILD_ID, BPF_F_USER_STACK},
    helpers::generated::{bpf_get_current_task_btf, bpf_get_stack, bpf_probe_read_user, bpf_task_pt_regs},
    programs::RawTracePointContext,
};
use probe_abi::{
    CRASH_MEMORY_LEN, Crash, CrashMemory, DropClass, FRAMES_MAX, KIND_CRASH, KIND_CRASH_MEMORY, SentSignal,
    StackFrame,
};

use crate::{
    budget,
    field::{is_typed, offsets, read},
    ring::{self, BULK, URGENT},
    sent_signal, task,
};

offsets! {
    /// `kernel_siginfo._sifields._sigfault._addr`
    OFF_SIGINFO_ADDR;
    /// `task_struct.thread.error_code` of x86, `task_struct.thread.fault_code` of arm64
    OFF_TASK_FAULT_CODE;
    /// `task_struct.thread.trap_nr` of x86
    OFF_TASK_TRAP;
    /// `pt_regs.ip` of x86, `pt_regs.pc` of arm64
    OFF_REGS_INSTRUCTION;
    /// `pt_regs.sp`
    OFF_REGS_STACK;
    /// `pt_regs.bp` of x86
    OFF_REGS_FRAME;
    /// `pt_regs.regs` of arm64
    OFF_REGS_GENERAL;
}

/// 1 where the kernel hands out the registers of the current task (`bpf_task_pt_regs`, since 5.15).
#[unsafe(no_mangle)]
static HAS_TASK_REGISTERS: Global<u32> = Global::new(0);

/// `SEND_SIG_NOINFO` and `SEND_SIG_PRIV` stand for no `siginfo`.
const NO_INFO_MAX: u64 = 1;

/// arm64's frame pointer and link register, by their offsets in `pt_regs.regs`.
const FRAME_REGISTER: u64 = 29 * 8;
const LINK_REGISTER: u64 = 30 * 8;

/// The memory of a stack is copied in such pieces. It ends at one that is not there.
const PIECE: usize = 1024;

/// Sends the record. The receiver is a thread of the current process.
#[inline(always)]
pub fn submit(ctx: &RawTracePointContext, info: u64, receiver: u64, tgid: u32, sent: &SentSignal) {
    if !budget::take_signal(tgid) {
        ring::count_drop(DropClass::Signal);
        return;
    }
    let Some(mut entry) = URGENT.reserve::<Crash>(0) else {
        ring::count_drop(DropClass::Signal);
        return;
    };
    let record = entry.as_mut_ptr();
    let current = task::current();
    let registers = registers();
    let instruction: u64 = read(registers, &OFF_REGS_INSTRUCTION);
    let stack_pointer: u64 = read(registers, &OFF_REGS_STACK);
    if registers != 0 {
        submit_memory(tgid, registers, instruction, stack_pointer);
    }
    // No memory can be read there, as with `field::read`.
    let address = if info <= NO_INFO_MAX { 0 } else { read(info, &OFF_SIGINFO_ADDR) };
    // SAFETY: the reservation is the size of a `Crash`; every field is written but for frames past `stack_bytes`. The
    // helpers check the memory that they read.
    unsafe {
        ring::write_header(record, KIND_CRASH);
        (*record).start_ns = task::start_ns(task::leader(receiver));
        (*record).tgid = tgid;
        sent_signal::write(&raw mut (*record).signal, Some(sent));
        (*record).address = address;
        (*record).fault_code = read(current, &OFF_TASK_FAULT_CODE);
        (*record).trap = read(current, &OFF_TASK_TRAP);
        (*record).instruction = instruction;
        (*record).stack_pointer = stack_pointer;
        (*record).return_address = 0;
        // The process could not execute what is at this address, so it had pushed where it came from.
        if registers != 0 && instruction == address {
            bpf_probe_read_user(
                (&raw mut (*record).return_address).cast(),
                size_of::<u64>() as u32,
                stack_pointer as *const _,
            );
        }
        (*record).stack_bytes = bpf_get_stack(
            ctx.as_ptr(),
            (&raw mut (*record).frames).cast(),
            size_of::<[StackFrame; FRAMES_MAX]>() as u32,
            u64::from(BPF_F_USER_STACK | BPF_F_USER_BUILD_ID),
        ) as i32;
    }
    entry.submit(ring::WAKEUP);
}

#[inline(always)]
fn submit_memory(tgid: u32, registers: u64, instruction: u64, stack_pointer: u64) {
    // It is large, and says less than what else is in that ring.
    let room = if ring::half_free(&BULK) { BULK.reserve::<CrashMemory>(0) } else { None };
    let Some(mut entry) = room else {
        ring::count_drop(DropClass::CrashMemory);
        return;
    };
    let record = entry.as_mut_ptr();
    let frame: u64 = read(registers, &OFF_REGS_FRAME);
    let general = |offset| read::<u64>(registers.wrapping_add(offset), &OFF_REGS_GENERAL);
    // SAFETY: the reservation is the size of a `CrashMemory`; every field is written but for bytes past `length`. The helper
    // checks the memory that it reads.
    unsafe {
        ring::write_header(record, KIND_CRASH_MEMORY);
        (*record).tgid = tgid;
        (*record).instruction = instruction;
        (*record).stack_pointer = stack_pointer;
        // A processor has one of the two, and the other is 0.
        (*record).frame_pointer = frame | general(FRAME_REGISTER);
        (*record).link = general(LINK_REGISTER);
        let mut length = 0;
        while length < CRASH_MEMORY_LEN {
            let to = (&raw mut (*record).bytes).cast::<u8>().add(length);
            let from = stack_pointer.wrapping_add(length as u64);
            if bpf_probe_read_user(to.cast(), PIECE as u32, from as *const _) != 0 {
                break;
            }
            length += PIECE;
        }
        (*record).length = length as u32;
    }
    entry.submit(ring::NO_WAKEUP);
}

/// The address of the current task's user registers; 0 where the kernel does not hand them out.
#[inline(always)]
fn registers() -> u64 {
    if !is_typed() || HAS_TASK_REGISTERS.load() == 0 {
        return 0;
    }
    // SAFETY: the task is the current one.
    unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as u64 }
}
