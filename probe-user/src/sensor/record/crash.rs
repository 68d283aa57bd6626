//! The stack of a process that crashed.

use crate::stacks::StackCopy;

/// What the programs saw of a process when it got the signal that ends it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrashStack {
    /// `si_addr`. Without meaning for a signal that a process sent.
    pub address: u64,
    /// What the processor said of the latest fault: x86's error code, arm64's `ESR`.
    pub fault_code: u64,
    /// x86's number of the latest trap.
    pub trap: u64,
    /// `comm` of the thread.
    pub thread_name: String,
    /// Instruction and stack pointer; None where the kernel does not hand out the registers.
    pub registers: Option<Registers>,
    /// The innermost first.
    pub frames: Vec<StackFrame>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    pub instruction: u64,
    pub stack_pointer: u64,
    /// The top of the stack, if the process jumped to the address of its fault.
    pub return_address: Option<u64>,
}

/// A place in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackFrame {
    /// In a file with a build id, at this offset.
    File { build_id: [u8; probe_abi::BUILD_ID_LEN], offset: u64 },
    /// At an address of the process.
    Address(u64),
}

/// The memory of the stack of a thread that crashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashMemory {
    pub at_ns: u64,
    pub pid: u32,
    pub stack: StackCopy,
}
