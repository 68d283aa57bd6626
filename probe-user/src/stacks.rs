//! Where the threads of a process are, and what they wait for.
//!
//! A thread that waits in the kernel is first unwound from what `/proc` shows of it, without being stopped. Only where that
//! does not suffice, it is stopped for a moment (`stacks/tracer.rs`). Its stack is copied then, and unwound after it has
//! gone on. Files of the process are only read while no thread is stopped: a file system may not answer.

mod call_name;
mod collect;
mod copied;
mod descriptor;
mod futex;
mod header;
mod image;
mod memory;
mod name;
mod reason;
mod refusal;
mod report;
mod summary;
mod thread_stack;
mod tracer;
mod unwind;
mod wait;

#[cfg(fuzzing)]
pub use self::header::ElfHeader;
pub use self::{
    collect::{Collected, collect},
    copied::StackCopy,
    descriptor::ServiceNames,
    tracer::Registers,
};
