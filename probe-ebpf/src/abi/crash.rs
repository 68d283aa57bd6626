//! Where a process crashed.

use core::mem::{offset_of, size_of};

use crate::{Header, SentSignal};

/// Most frames of a stack.
pub const FRAMES_MAX: usize = 32;

/// Length of a build id in a [`StackFrame`]. A shorter one is filled up with zeros.
pub const BUILD_ID_LEN: usize = 20;

/// [`StackFrame::status`]: `place` is an offset in the file with this build id.
pub const FRAME_BUILD_ID: i32 = 1;
/// [`StackFrame::status`]: `place` is an address of the process. No file is mapped there, its build id is not in memory, or
/// the process's map was locked.
pub const FRAME_ADDRESS: i32 = 2;

/// One frame of a user stack, as `bpf_get_stack` writes it: `struct bpf_stack_build_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StackFrame {
    /// [`FRAME_BUILD_ID`] or [`FRAME_ADDRESS`].
    pub status: i32,
    pub build_id: [u8; BUILD_ID_LEN],
    pub place: u64,
}

/// A watched process has a fault that ends it, or sends itself such a signal. Urgent ring.
///
/// The stack is that of the current thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Crash {
    /// [`KIND_CRASH`](crate::KIND_CRASH).
    pub header: Header,
    pub start_ns: u64,
    pub tgid: u32,
    /// Bytes used in `frames`; negative if the kernel took no stack.
    pub stack_bytes: i32,
    pub signal: SentSignal,
    /// `si_addr`: the address of a fault. Without meaning for a signal that a process sent.
    pub address: u64,
    /// What the processor said of the latest fault: x86's error code, arm64's `ESR`. 0 where the kernel does not have it.
    pub fault_code: u64,
    /// x86's number of the latest trap; 0 elsewhere.
    pub trap: u64,
    /// The instruction pointer; 0 where the kernel does not hand out the registers.
    pub instruction: u64,
    /// The stack pointer; 0 like `instruction`.
    pub stack_pointer: u64,
    /// What the stack pointer points to, if the process jumped to an address where it can execute nothing: the call is not in
    /// `frames` then. Else 0.
    pub return_address: u64,
    /// The innermost first. Bytes past `stack_bytes` are stale memory.
    pub frames: [StackFrame; FRAMES_MAX],
}

/// Most bytes of a stack that are copied.
pub const CRASH_MEMORY_LEN: usize = 8192;

/// What the stack of a crash has above its stack pointer, for an unwinder that knows where each function keeps its return
/// address: most code keeps no frame pointers. Bulk ring, just before the [`Crash`]. Only where the kernel hands out the
/// registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct CrashMemory {
    /// [`KIND_CRASH_MEMORY`](crate::KIND_CRASH_MEMORY).
    pub header: Header,
    pub tgid: u32,
    /// Bytes used in `bytes`.
    pub length: u32,
    pub instruction: u64,
    /// Where the bytes begin.
    pub stack_pointer: u64,
    pub frame_pointer: u64,
    /// arm64's link register; 0 elsewhere.
    pub link: u64,
    /// Bytes past `length` are stale memory.
    pub bytes: [u8; CRASH_MEMORY_LEN],
}

const _: () = {
    assert!(size_of::<CrashMemory>() == 56 + CRASH_MEMORY_LEN && offset_of!(CrashMemory, bytes) == 56);
    assert!(size_of::<StackFrame>() == 32 && offset_of!(StackFrame, place) == 24);
    assert!(size_of::<Crash>() == 144 + 32 * FRAMES_MAX && offset_of!(Crash, frames) == 144);
};
