//! Forks as fast as it can, or so many times a second; its children die at once.
//!
//! `storm exit|well|signals|exec [N [PER_SECOND]]` drops its rights, says `ready`, waits for SIGUSR1, and makes children
//! until it has made N or gets SIGTERM; then it says how many it made. The children exit with 1, exit with 0,
//! kill themselves by SIGKILL and SIGABRT in turn, or become `/bin/true`.

use std::{
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use hostprobe_tests::storm::{Manner, become_nobody, wait_for_start_signal};

/// Children that live at once.
const BATCH: u64 = 8;

static END: AtomicBool = AtomicBool::new(false);

extern "C" fn end(_: libc::c_int) {
    END.store(true, Ordering::SeqCst);
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(manner) = arguments.first().and_then(|word| Manner::named(word)) else {
        eprintln!("usage: storm exit|well|signals|exec [N [PER_SECOND]]");
        return ExitCode::from(2);
    };
    let number = |at: usize| arguments.get(at).and_then(|number| number.parse::<u64>().ok());
    let (most, pace) = (number(1).unwrap_or(u64::MAX), number(2));
    if let Err(error) = become_nobody() {
        eprintln!("storm: its rights cannot be dropped: {error}");
        return ExitCode::FAILURE;
    }
    // SAFETY: a plain system call; the handler stores to an atomic, which is allowed in one.
    unsafe { libc::signal(libc::SIGTERM, end as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    wait_for_start_signal();
    let (began, mut made) = (Instant::now(), 0);
    while made < most && !END.load(Ordering::SeqCst) {
        let batch = (made..most).take(BATCH as usize).filter(|&number| fork(manner, number)).count() as u64;
        for _ in 0..batch {
            // SAFETY: waits for any child; its status is not asked for.
            unsafe { libc::wait(std::ptr::null_mut()) };
        }
        made += batch;
        if let Some(pace) = pace {
            let due = Duration::from_secs_f64(made as f64 / pace.max(1) as f64);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
    println!("made {made}");
    ExitCode::SUCCESS
}

/// Makes a child that ends at once; false if there can be none at the moment.
fn fork(manner: Manner, number: u64) -> bool {
    // SAFETY: the child makes one system call that ends it, or its program.
    match unsafe { libc::fork() } {
        -1 => false,
        0 => die(manner, number),
        _ => true,
    }
}

fn die(manner: Manner, number: u64) -> ! {
    // SAFETY: each of these ends the calling process, or its program; the arguments are C strings and a null.
    unsafe {
        match (manner, number % 2) {
            (Manner::Exit, _) => libc::_exit(1),
            (Manner::Well, _) => libc::_exit(0),
            (Manner::Signals, 0) => libc::kill(libc::getpid(), libc::SIGKILL),
            (Manner::Signals, _) => libc::abort(),
            (Manner::Exec, _) => {
                let program = c"/bin/true".as_ptr();
                libc::execl(program, program, std::ptr::null::<libc::c_char>())
            }
        };
        libc::_exit(2)
    }
}
