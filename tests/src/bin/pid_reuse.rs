//! Runs a program under a chosen pid: `pid_reuse PID PROGRAM [ARGUMENT…]`.
//!
//! It waits for the pid to be free, starts the program, waits for its end, and needs `CAP_SYS_ADMIN`.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    thread,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = arguments.first().and_then(|pid| pid.parse::<libc::pid_t>().ok());
    let (Some(wanted), Some(program)) = (wanted, arguments.get(1)) else {
        eprintln!("usage: pid_reuse PID PROGRAM [ARGUMENT...]");
        return ExitCode::from(2);
    };
    let pid = loop {
        match clone_as(wanted) {
            Ok(pid) => break pid,
            // Its last owner has not been waited for.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => thread::yield_now(),
            Err(error) => {
                eprintln!("pid_reuse: cannot take pid {wanted}: {error}");
                return ExitCode::FAILURE;
            }
        }
    };
    if pid == 0 {
        let error = Command::new(program).args(&arguments[2..]).exec();
        eprintln!("pid_reuse: cannot execute {program}: {error}");
        std::process::exit(1);
    }
    println!("running as {pid}");
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    ExitCode::SUCCESS
}

/// Forks a child with this pid (`clone3(2)`, `set_tid`); 0 in the child.
fn clone_as(wanted: libc::pid_t) -> std::io::Result<libc::pid_t> {
    // SAFETY: all zeros are valid for this structure of integers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.set_tid = (&raw const wanted) as u64;
    arguments.set_tid_size = 1;
    // SAFETY: the arguments outlive the call; this process has one thread, and without CLONE_VM the child its own memory.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    if pid < 0 { Err(std::io::Error::last_os_error()) } else { Ok(pid as libc::pid_t) }
}
