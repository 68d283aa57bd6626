//! From the record of a crash to its fact, as far as no file has to be read.

use super::Enricher;
use crate::{
    fact::{CrashFrame, CrashSite, MemoryAccess, Process, ProcessKey},
    sensor::record::{CrashStack, ReceivedSignal, StackFrame},
};

const SIGBUS: u32 = 7;
const SIGSEGV: u32 = 11;
/// `SEGV_MAPERR` and `SEGV_ACCERR`: nothing is mapped there, or not for this access.
const MAP_ERROR: i32 = 1;
const ACCESS_ERROR: i32 = 2;
/// `SI_KERNEL`: x86's general protection fault, which comes without an address.
const FROM_KERNEL: i32 = 0x80;
/// x86's page fault, and the bits of its error code.
const PAGE_FAULT: u64 = 14;
const WRITES: u64 = 1 << 1;
const FETCHES: u64 = 1 << 4;
/// The class of an arm64 exception is in its upper bits: an abort of a fetch, or of an access, from user space.
const CLASS_SHIFT: u32 = 26;
const FETCH_ABORT: u64 = 0x20;
const DATA_ABORT: u64 = 0x24;
const ABORTED_WRITE: u64 = 1 << 6;

/// A push or a call that finds no more stack misses it by less than this. Compilers touch larger frames in steps: of a page
/// on x86, and of 64 KiB on arm64 (GCC's `stack-clash-protection-guard-size` is 12 and 16 bits).
const STACK_REACH: u64 = if cfg!(target_arch = "aarch64") { 64 << 10 } else { 4 << 10 };

/// No file is larger: the kernel's limit is 2⁶³ bytes.
const OFFSET_MAX: u64 = 1 << 63;

impl Enricher {
    /// The process that a signal is for, if it is known.
    pub fn known_process(&self, key: ProcessKey) -> Option<&Process> {
        self.table.get(key)
    }
}

/// Where a process crashed: addresses, and places in files that have a build id.
pub fn crash_site(received: &ReceivedSignal, stack: &CrashStack) -> CrashSite {
    let signal = &received.signal;
    let is_raised = signal.sender.is_some();
    let is_memory = matches!(signal.number, SIGSEGV | SIGBUS) && !is_raised;
    let address = (is_memory && signal.code != FROM_KERNEL).then_some(stack.address);
    let access = address.and_then(|address| access(stack, address));
    let is_fault = matches!(signal.code, MAP_ERROR | ACCESS_ERROR) && signal.number == SIGSEGV;
    let stack_overflow = is_fault
        && access != Some(MemoryAccess::Execute)
        && address
            .zip(stack.registers)
            .is_some_and(|(address, registers)| address.abs_diff(registers.stack_pointer) <= STACK_REACH);
    // The kernel takes an address between two files for one in the next file, before its beginning.
    let is_place = |frame: &&StackFrame| match frame {
        StackFrame::File { offset, .. } => *offset < OFFSET_MAX,
        StackFrame::Address(_) => true,
    };
    let mut frames: Vec<_> = match (access, address) {
        // What it jumped to is in no file, whatever the kernel says.
        (Some(MemoryAccess::Execute), Some(address)) => {
            let callers = stack.frames.iter().skip(1).take_while(is_place);
            [StackFrame::Address(address)].iter().chain(callers).map(frame).collect()
        }
        _ => stack.frames.iter().take_while(is_place).map(frame).collect(),
    };
    if access == Some(MemoryAccess::Execute)
        && let Some(caller) = jumped_from(stack)
    {
        frames.insert(frames.len().min(1), caller);
    }
    CrashSite {
        signal: u8::try_from(signal.number).unwrap_or_default(),
        code: signal.code,
        is_raised,
        address,
        access,
        stack_overflow,
        stack: frames,
        runtime: None,
        core: None,
    }
}

/// Where a jump to nowhere came from. The frame pointers lack this place, since the function that was called made no frame.
#[cfg(target_arch = "x86_64")]
fn jumped_from(stack: &CrashStack) -> Option<CrashFrame> {
    let address = stack.registers?.return_address?;
    Some(CrashFrame { address: Some(address), ..CrashFrame::default() })
}

/// On other machines it is in a register that the record does not have. The next frame is not it, so an unknown place stands
/// for it.
#[cfg(not(target_arch = "x86_64"))]
fn jumped_from(_: &CrashStack) -> Option<CrashFrame> {
    Some(CrashFrame::default())
}

fn frame(frame: &StackFrame) -> CrashFrame {
    match frame {
        StackFrame::File { build_id, offset } => CrashFrame {
            build_id: Some(build_id.iter().map(|byte| format!("{byte:02x}")).collect()),
            offset: Some(*offset),
            ..CrashFrame::default()
        },
        StackFrame::Address(address) => CrashFrame { address: Some(*address), ..CrashFrame::default() },
    }
}

/// What the process was doing with the memory, as far as the processor says.
fn access(stack: &CrashStack, address: u64) -> Option<MemoryAccess> {
    let is_fetch = stack.registers.is_some_and(|registers| registers.instruction == address)
        || stack.frames.first() == Some(&StackFrame::Address(address));
    if is_fetch {
        return Some(MemoryAccess::Execute);
    }
    let code = stack.fault_code;
    if cfg!(target_arch = "x86_64") {
        return match (stack.trap, code) {
            (PAGE_FAULT, code) if code & FETCHES != 0 => Some(MemoryAccess::Execute),
            (PAGE_FAULT, code) if code & WRITES != 0 => Some(MemoryAccess::Write),
            (PAGE_FAULT, _) => Some(MemoryAccess::Read),
            _ => None,
        };
    }
    match code >> CLASS_SHIFT {
        FETCH_ABORT => Some(MemoryAccess::Execute),
        DATA_ABORT if code & ABORTED_WRITE != 0 => Some(MemoryAccess::Write),
        DATA_ABORT => Some(MemoryAccess::Read),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::record::{Registers, Sender, Signal};

    fn received(number: u32, code: i32) -> ReceivedSignal {
        let signal = Signal { at_ns: 5, number, code, context_pid: 7, sender: None };
        ReceivedSignal { at_ns: 5, pid: 7, start_ns: 1, signal }
    }

    /// A read of address 0x10 by a function of a library, on x86.
    fn stack() -> CrashStack {
        CrashStack {
            address: 0x10,
            fault_code: 4,
            trap: 14,
            thread_name: "api".to_owned(),
            registers: Some(Registers {
                instruction: 0x7f00_0000_1180,
                stack_pointer: 0x7ffd_0000_0000,
                return_address: None,
            }),
            frames: vec![
                StackFrame::File { build_id: [0xab; 20], offset: 0x1180 },
                StackFrame::Address(0x5555_0000),
            ],
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_fault_has_its_address_and_what_was_done_with_it() {
        let site = crash_site(&received(11, 1), &stack());
        assert_eq!((site.address, site.access), (Some(0x10), Some(MemoryAccess::Read)));
        assert_eq!(site.stack[0].build_id, Some("ab".repeat(20)));
        assert_eq!((site.stack[0].offset, site.stack[1].address), (Some(0x1180), Some(0x5555_0000)));
        assert!(!site.stack_overflow && !site.is_raised);
        let write = crash_site(&received(11, 1), &CrashStack { fault_code: 6, ..stack() });
        assert_eq!(write.access, Some(MemoryAccess::Write));
        let refused = crash_site(&received(11, 0x80), &CrashStack { trap: 13, address: 0, ..stack() });
        assert_eq!((refused.address, refused.access), (None, None));
        let by_zero = crash_site(&received(8, 1), &CrashStack { trap: 0, ..stack() });
        assert_eq!((by_zero.address, by_zero.access), (None, None));
    }

    /// Exception classes 0x24 and 0x20 with the bit of a 32-bit instruction, a translation fault, and bit 6 for a write.
    #[test]
    #[cfg(target_arch = "aarch64")]
    fn a_fault_has_its_address_and_what_was_done_with_it() {
        let of = |fault_code| crash_site(&received(11, 1), &CrashStack { fault_code, trap: 0, ..stack() });
        let read = of(0x9200_0004);
        assert_eq!((read.address, read.access), (Some(0x10), Some(MemoryAccess::Read)));
        assert_eq!(of(0x9200_0044).access, Some(MemoryAccess::Write));
        assert_eq!(of(0x8200_0004).access, Some(MemoryAccess::Execute));
        assert_eq!(of(0).access, None);
    }

    #[test]
    #[cfg(target_arch = "aarch64")]
    fn a_jump_to_nowhere_has_an_unknown_place_for_the_one_that_it_came_from() {
        let registers = Registers { instruction: 0, stack_pointer: 0x7ffd_0000_0000, return_address: None };
        let frames = vec![StackFrame::Address(0), StackFrame::Address(0x5555_2222)];
        let jump =
            CrashStack { address: 0, fault_code: 0x8200_0004, registers: Some(registers), frames, ..stack() };
        let site = crash_site(&received(11, 1), &jump);
        let addresses: Vec<_> = site.stack.iter().map(|frame| frame.address).collect();
        assert_eq!(addresses, [Some(0), None, Some(0x5555_2222)]);
        assert_eq!(site.words(), "jumped to 0x0, where no code is, from an unknown place");
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_jump_to_nowhere_has_the_place_that_it_came_from() {
        let registers =
            Registers { instruction: 0, stack_pointer: 0x7ffd_0000_0000, return_address: Some(0x5555_1111) };
        let frames = vec![StackFrame::Address(0), StackFrame::Address(0x5555_2222)];
        let jump = CrashStack { address: 0, fault_code: 0x14, registers: Some(registers), frames, ..stack() };
        let site = crash_site(&received(11, 1), &jump);
        let addresses: Vec<_> = site.stack.iter().map(|frame| frame.address).collect();
        assert_eq!(addresses, [Some(0), Some(0x5555_1111), Some(0x5555_2222)]);
        assert_eq!(site.access, Some(MemoryAccess::Execute));
        let without = CrashStack { registers: None, ..jump.clone() };
        assert_eq!(crash_site(&received(11, 1), &without).stack.len(), 2);
        let before_a_file = StackFrame::File { build_id: [0xab; 20], offset: 0xffff_a9ee_d934_a000 };
        let frames = vec![before_a_file, StackFrame::Address(0x5555_2222), before_a_file];
        let site = crash_site(&received(11, 1), &CrashStack { frames, ..jump });
        let addresses: Vec<_> = site.stack.iter().map(|frame| frame.address).collect();
        assert_eq!(addresses, [Some(0), Some(0x5555_1111), Some(0x5555_2222)]);
    }

    #[test]
    fn a_fault_at_the_stack_pointer_is_a_used_up_stack() {
        let below = CrashStack { address: 0x7ffd_0000_0000 - 8, fault_code: 6, ..stack() };
        assert!(crash_site(&received(11, 1), &below).stack_overflow);
        assert!(crash_site(&received(11, 2), &below).stack_overflow, "a guard page");
        let far = CrashStack { address: 0x7ffd_0000_0000 - 2 * STACK_REACH, ..below.clone() };
        assert!(!crash_site(&received(11, 1), &far).stack_overflow);
        assert!(!crash_site(&received(11, 1), &CrashStack { registers: None, ..below }).stack_overflow);
    }

    #[test]
    fn a_signal_that_the_process_sent_itself_has_no_address() {
        let sender = Sender { pid: 7, uid: 0, start_ns: 1, cgroup_v2: None, comm: "api".to_owned() };
        let mut raised = received(6, -6);
        raised.signal.sender = Some(sender);
        let site = crash_site(&raised, &stack());
        assert!(site.is_raised && site.address.is_none() && site.access.is_none() && !site.stack_overflow);
    }
}
