//! Stops threads for a moment, one after the other, to read their registers.
//!
//! `PTRACE_SEIZE` sends no signal and keeps a group stop, and `PTRACE_INTERRUPT` ends a wait in the kernel only to begin it
//! again (`ptrace(2)`). No `waitpid` is used: it could take the end of a service away from the supervisor, which is its
//! parent. Whether a thread has stopped, `PTRACE_GETSIGINFO` says.
//!
//! The kernel detaches all threads that the calling thread has seized when that thread ends, however it ends, also those
//! that never stopped (`exit_ptrace`). So all calls are made by one thread, which does nothing else.

use std::{
    io, mem,
    time::{Duration, Instant},
};

/// `si_code` of a stop by `PTRACE_INTERRUPT`, above the signal (`ptrace(2)`), and the general registers of a thread.
/// The libc crate has them not for all C libraries.
const EVENT_STOP: i32 = 128;
const GENERAL_REGISTERS: usize = 1;

/// How long the tracer waits for one thread before it takes the next. A thread that sleeps stops within 0.1 ms.
const STOP: Duration = Duration::from_millis(5);

/// How long it waits at the end for those that have not stopped: busy threads stop when they get a CPU.
const LAST: Duration = Duration::from_millis(100);

/// The wait between two looks.
const LOOK: Duration = Duration::from_micros(50);

/// What the unwinder needs to know of a stopped thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    pub program_counter: u64,
    pub stack_pointer: u64,
    pub frame_pointer: u64,
    /// The return address of a function that calls no other, on aarch64.
    pub link: u64,
}

/// Stops each thread, calls `on_stop` with its registers, and lets it go on. Returns why threads were refused.
///
/// It ends at `until`. The calling thread must end then: that releases the threads that have not stopped.
pub fn trace(tids: &[i32], until: Instant, mut on_stop: impl FnMut(i32, Registers)) -> Vec<(i32, io::Error)> {
    let mut refused = Vec::new();
    let mut seized: Vec<i32> = Vec::new();
    for &tid in tids {
        if Instant::now() >= until {
            break;
        }
        match seize(tid) {
            Ok(()) => seized.push(tid),
            Err(error) => {
                refused.push((tid, error));
                continue;
            }
        }
        let next = until.min(Instant::now() + STOP);
        while !release_stopped(&mut seized, &mut on_stop) && Instant::now() < next {
            std::thread::sleep(LOOK);
        }
    }
    let last = until.min(Instant::now() + LAST);
    while !release_stopped(&mut seized, &mut on_stop) && Instant::now() < last {
        std::thread::sleep(10 * LOOK);
    }
    refused
}

/// Takes the registers of the threads that have stopped, and lets them go on. True if none is seized any more.
fn release_stopped(seized: &mut Vec<i32>, on_stop: &mut impl FnMut(i32, Registers)) -> bool {
    seized.retain(|&tid| match stop(tid) {
        Stop::NotYet => true,
        Stop::With(signal) => {
            if let Some(registers) = registers(tid) {
                on_stop(tid, registers);
            }
            request(libc::PTRACE_DETACH, tid, std::ptr::null_mut(), data_of(signal))
                .is_err_and(|error| !is_gone(&error))
        }
    });
    seized.is_empty()
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}

fn seize(tid: i32) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, tid, std::ptr::null_mut(), std::ptr::null_mut())?;
    // It fails only if the thread has ended.
    let _ = request(libc::PTRACE_INTERRUPT, tid, std::ptr::null_mut(), std::ptr::null_mut());
    Ok(())
}

enum Stop {
    NotYet,
    /// It has stopped. The signal is one that it was about to get, or 0.
    With(i32),
}

/// Whether a seized thread has stopped.
fn stop(tid: i32) -> Stop {
    // SAFETY: a `siginfo_t` is plain data, for which zeroes are a valid value.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    if request(libc::PTRACE_GETSIGINFO, tid, std::ptr::null_mut(), (&raw mut info).cast()).is_err() {
        // It runs, or is gone. When the tracer ends, the kernel releases it in both cases.
        return Stop::NotYet;
    }
    let is_interrupt = info.si_code >> 8 == EVENT_STOP;
    Stop::With(if is_interrupt { 0 } else { info.si_signo })
}

fn registers(tid: i32) -> Option<Registers> {
    // SAFETY: the registers are plain numbers, for which zeroes are a valid value.
    let mut found: libc::user_regs_struct = unsafe { mem::zeroed() };
    let size = mem::size_of::<libc::user_regs_struct>();
    let mut room = libc::iovec { iov_base: (&raw mut found).cast(), iov_len: size };
    let kind = std::ptr::without_provenance_mut(GENERAL_REGISTERS);
    request(libc::PTRACE_GETREGSET, tid, kind, (&raw mut room).cast()).ok()?;
    // Those of a 32-bit program are shorter.
    (room.iov_len == size).then(|| of_native(&found))
}

#[cfg(target_env = "musl")]
type Request = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Request = libc::c_uint;

type Argument = *mut libc::c_void;

fn data_of(signal: i32) -> Argument {
    std::ptr::without_provenance_mut(usize::try_from(signal).unwrap_or_default())
}

fn request(request: Request, tid: i32, address: Argument, data: Argument) -> io::Result<()> {
    // SAFETY: the requests of this file write to `data` alone, which the caller has made large enough.
    let answer = unsafe { libc::ptrace(request, tid, address, data) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(target_arch = "x86_64")]
fn of_native(found: &libc::user_regs_struct) -> Registers {
    let (program_counter, stack_pointer, frame_pointer) = (found.rip, found.rsp, found.rbp);
    Registers { program_counter, stack_pointer, frame_pointer, link: 0 }
}

#[cfg(target_arch = "aarch64")]
fn of_native(found: &libc::user_regs_struct) -> Registers {
    let (program_counter, stack_pointer) = (found.pc, found.sp);
    Registers { program_counter, stack_pointer, frame_pointer: found.regs[29], link: found.regs[30] }
}

#[cfg(test)]
mod tests;
