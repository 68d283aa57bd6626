//! The kernel side of hostprobe: raw tracepoint programs, one hook a module.
//!
//! No offset of a kernel structure is compiled in. Each is a frozen global that the daemon fills from the running
//! kernel's BTF before it loads the object, so that one object serves every kernel and architecture.
#![no_std]
#![no_main]

mod budget;
mod cgroup;
mod cgroup_mkdir;
mod exec;
mod exit;
mod field;
mod fork;
mod known;
mod oom;
mod ring;
mod signal;
mod socket;
mod task;
mod watch;

/// The helpers used here are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here panics; the verifier would refuse the endless loop if something could.
    loop {}
}
