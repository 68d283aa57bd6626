//! The actions of a workload process. It waits until its standard input is closed, then acts.

use std::{io::Read, thread};

use anyhow::{Context, Result, bail};
use hostprobe_tests::fault;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};

/// Most actions end the process.
pub fn run(words: &[&str]) -> Result<()> {
    // Some actions dump core.
    let unlimited = Rlimit { current: None, maximum: None };
    // Fails unless root; then the limit stays.
    let _ = setrlimit(Resource::Core, unlimited);
    let [action, rest @ ..] = words else { bail!("no action is named") };
    name(action)?;
    let number = |at: usize| -> Result<i32> {
        rest.get(at).context("a number is missing")?.parse().context("not a number")
    };
    // The check closes the pipe when it is ready.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    match *action {
        "exit" => std::process::exit(number(0)?),
        "segv" => fault::write_to_nothing(),
        "abort" => std::process::abort(),
        "thread-segv" => drop(thread::spawn(fault::write_to_nothing).join()),
        "leader-exits" => {
            let code = number(0)?;
            thread::spawn(move || {
                fault::wait_for_main_thread();
                // SAFETY: ends the process at once, so no state is used afterwards.
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
        "write" => std::fs::write(rest.first().context("a file is missing")?, b"written")?,
        "kill" => {
            let target = Pid::from_raw(number(0)?).context("not a process")?;
            let signal = Signal::from_named_raw(number(1)?).context("not a signal")?;
            kill_process(target, signal)?;
        }
        _ => bail!("unknown action {action}"),
    }
    Ok(())
}

/// Waits for a fatal signal.
fn wait() {
    loop {
        thread::park();
    }
}

/// Forks a grandchild that exits with `code` after its parent, and waits for its exit.
fn orphan(code: i32) -> Result<()> {
    let (mut waiting, held) = std::io::pipe()?;
    // SAFETY: this process has one thread, and its children make system calls only.
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
    // SAFETY: waits for a child of this process, whose status is not needed.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    // The grandchild's exit closes the pipe.
    waiting.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Names the process after its action, so that a check can tell its records.
fn name(action: &str) -> Result<()> {
    let name = std::ffi::CString::new(action)?;
    rustix::thread::set_name(&name)?;
    Ok(())
}
