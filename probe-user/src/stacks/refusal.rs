//! Why threads could not be stopped, in words that say what to do.

use std::io;

use rustix::thread::{CapabilitySet, capabilities};

use crate::host::ProcReader;

/// `kernel.yama.ptrace_scope` at which no process may trace any other.
const NO_TRACING: &str = "3";

/// A sentence for the threads that were refused with this error.
pub fn sentence(reader: &ProcReader, threads: usize, error: &io::Error) -> String {
    let noun = if threads == 1 { "thread" } else { "threads" };
    let begin = format!("{threads} {noun} could not be stopped ({error})");
    if error.raw_os_error() != Some(libc::EPERM) {
        return begin;
    }
    let scope = reader.proc().join("sys/kernel/yama/ptrace_scope");
    let scope = std::fs::read_to_string(scope).unwrap_or_default();
    let own = capabilities(None).map_or(CapabilitySet::empty(), |own| own.effective);
    if !own.contains(CapabilitySet::SYS_PTRACE) {
        format!("{begin}: hostprobe lacks CAP_SYS_PTRACE")
    } else if scope.trim() == NO_TRACING {
        format!("{begin}: kernel.yama.ptrace_scope is 3")
    } else {
        format!(
            "{begin}: a filter of system calls or a security module forbids it; under systemd, install stacks.conf"
        )
    }
}
