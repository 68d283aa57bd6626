//! The kernel side of hostprobe: raw tracepoint programs, one hook a module.
//!
//! No offset of a kernel structure is compiled in. Each offset is a frozen global. The daemon fills it from the running
//! kernel's BTF before it loads the object, so one object serves every kernel and architecture.
#![no_std]
#![no_main]

mod budget;
mod cgroup;
mod cgroup_mkdir;
mod crash;
mod exec;
mod exit;
mod field;
mod fork;
mod host;
mod oom;
mod prefilter;
mod ring;
mod sent_signal;
mod signal;
mod socket;
mod task;
mod watch;

/// Several of the helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // No program panics: if one could, the verifier would refuse this endless loop.
    loop {}
}
