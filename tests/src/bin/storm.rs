//! Somebody who forks as fast as he can, with children that die at once.
//!
//! `storm exit|signals [N]` drops its rights, says `ready`, waits for SIGUSR1, and makes children until it has made N or
//! is told to end by SIGTERM; then it says how many it made. The children exit with 1, or kill themselves by SIGKILL and
//! SIGABRT in turn.

use std::{
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

/// The user `nobody`, on every distribution.
const NOBODY: libc::uid_t = 65534;

/// Children that live at once.
const FLOCK: u64 = 8;

static END: AtomicBool = AtomicBool::new(false);

extern "C" fn end(_: libc::c_int) {
    END.store(true, Ordering::SeqCst);
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let by_signal = match arguments.first().map(String::as_str) {
        Some("exit") => false,
        Some("signals") => true,
        Some(_) | None => {
            eprintln!("usage: storm exit|signals [N]");
            return ExitCode::from(2);
        }
    };
    let most = arguments.get(1).and_then(|most| most.parse().ok()).unwrap_or(u64::MAX);
    // SAFETY: plain system calls; the handler stores to an atomic, which is allowed in one.
    unsafe {
        if libc::setgid(NOBODY) != 0 || libc::setuid(NOBODY) != 0 {
            eprintln!("storm: its rights cannot be dropped: {}", std::io::Error::last_os_error());
            return ExitCode::FAILURE;
        }
        libc::signal(libc::SIGTERM, end as extern "C" fn(libc::c_int) as libc::sighandler_t);
    }
    wait_for_the_word();
    let mut made = 0;
    while made < most && !END.load(Ordering::SeqCst) {
        let flock =
            (made..most).take(FLOCK as usize).filter(|&number| fork(by_signal, number)).count() as u64;
        for _ in 0..flock {
            // SAFETY: waits for any child; its status is not asked for.
            unsafe { libc::wait(std::ptr::null_mut()) };
        }
        made += flock;
    }
    println!("made {made}");
    ExitCode::SUCCESS
}

/// Says that it is ready, and waits for SIGUSR1.
fn wait_for_the_word() {
    // SAFETY: the set is initialised before it is used, and outlives the calls.
    unsafe {
        let mut begin = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut begin);
        libc::sigaddset(&raw mut begin, libc::SIGUSR1);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const begin, std::ptr::null_mut());
        println!("ready");
        let mut came = 0;
        libc::sigwait(&raw const begin, &raw mut came);
    }
}

/// Makes a child that ends at once; false if there can be none at the moment.
fn fork(by_signal: bool, number: u64) -> bool {
    // SAFETY: the child makes one system call that ends it.
    match unsafe { libc::fork() } {
        -1 => false,
        0 => die(by_signal, number),
        _ => true,
    }
}

fn die(by_signal: bool, number: u64) -> ! {
    // SAFETY: each of these ends the calling process.
    unsafe {
        match (by_signal, number % 2) {
            (false, _) => libc::_exit(1),
            (true, 0) => libc::kill(libc::getpid(), libc::SIGKILL),
            (true, _) => libc::abort(),
        };
        libc::_exit(2)
    }
}
