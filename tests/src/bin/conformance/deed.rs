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

/// Names the process after its deed.
fn name(deed: &str) -> Result<()> {
    let name = std::ffi::CString::new(deed)?;
    rustix::thread::set_name(&name)?;
    Ok(())
}
