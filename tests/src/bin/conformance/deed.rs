//! The processes that the checks need: each waits until its standard input says so, and then does one thing.

use std::{io::Read, thread};

use anyhow::{Context, Result, bail};
use hostprobe_tests::fault;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};

/// Does what the words say. Most deeds end the process.
pub fn act(words: &[&str]) -> Result<()> {
    // A core dump is part of some deeds.
    let unlimited = Rlimit { current: None, maximum: None };
    // Who is not root keeps the limit it has.
    let _ = setrlimit(Resource::Core, unlimited);
    let [deed, rest @ ..] = words else { bail!("no deed") };
    name(deed)?;
    let number = |at: usize| -> Result<i32> {
        rest.get(at).context("a number is missing")?.parse().context("not a number")
    };
    // The gate: the check closes it when it is ready.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    match *deed {
        "exit" => std::process::exit(number(0)?),
        "segv" => fault::write_to_nothing(),
        "abort" => std::process::abort(),
        "thread-segv" => drop(thread::spawn(fault::write_to_nothing).join()),
        "leader-exits" => {
            let code = number(0)?;
            thread::spawn(move || {
                fault::wait_for_main_thread();
                // SAFETY: ends the process at once; nothing of it is used afterwards.
                unsafe { libc::_exit(code) }
            });
            fault::exit_this_thread(0)
        }
        "threads-exit" => {
            let (first, last) = (number(0)?, number(1)?);
            thread::spawn(move || {
                fault::wait_for_main_thread();
                fault::exit_this_thread(last)
            });
            fault::exit_this_thread(first)
        }
        "crowd" => {
            for _ in 1..number(0)? {
                thread::spawn(wait);
            }
            wait()
        }
        "orphan" => orphan(number(0)?)?,
        "allocate" => loop {
            fault::allocate(1);
        },
        "kill" => {
            let target = Pid::from_raw(number(0)?).context("not a process")?;
            let signal = Signal::from_named_raw(number(1)?).context("not a signal")?;
            kill_process(target, signal)?;
        }
        _ => bail!("unknown deed {deed}"),
    }
    Ok(())
}

/// Waits to be killed.
fn wait() {
    loop {
        thread::park();
    }
}

/// Has a grandchild end with a code after its parent has ended, and waits for that.
fn orphan(code: i32) -> Result<()> {
    let (mut waiting, held) = std::io::pipe()?;
    // SAFETY: this process has one thread, and what it forks makes system calls only.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let parent = std::process::id().cast_signed();
        // SAFETY: as above.
        if unsafe { libc::fork() } == 0 {
            // SAFETY: takes nothing.
            while unsafe { libc::getppid() } == parent {
                thread::yield_now();
            }
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(code) }
        }
        // SAFETY: as above.
        unsafe { libc::_exit(0) }
    }
    drop(held);
    // SAFETY: waits for a child of this process, whose status nobody wants.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    // The grandchild's end closes the pipe.
    waiting.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Names the process after its deed.
fn name(deed: &str) -> Result<()> {
    let name = std::ffi::CString::new(deed)?;
    rustix::thread::set_name(&name)?;
    Ok(())
}
