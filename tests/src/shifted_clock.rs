//! Programs in a time namespace of their own, whose clocks since boot are shifted. The wall clock is everyone's.

use std::{fs, io, os::unix::process::CommandExt as _, process::Command};

/// `CLONE_NEWTIME` of `linux/sched.h`.
const CLONE_NEWTIME: libc::c_int = 0x80;

const OFFSETS: &str = "/proc/self/timens_offsets";

/// Has a command run with its clocks since boot ahead by so many seconds. It needs root, and a kernel in which `execve` enters
/// the new namespace (Linux 6.3).
pub fn shifted(command: &mut Command, seconds: i64) -> &mut Command {
    if seconds == 0 {
        return command;
    }
    let offsets = format!("boottime {seconds} 0\nmonotonic {seconds} 0\n");
    // SAFETY: between fork and exec, the closure makes three system calls, and allocates nothing.
    unsafe { command.pre_exec(move || enter(&offsets)) }
}

fn enter(offsets: &str) -> io::Result<()> {
    // SAFETY: a plain system call.
    if unsafe { libc::unshare(CLONE_NEWTIME) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // One write takes both lines (`timens_offsets_write` in `fs/proc/base.c`).
    fs::write(OFFSETS, offsets)
}
