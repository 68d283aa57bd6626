//! How soon a thread of the daemon gets a CPU that others use.

use std::time::Duration;

/// The shortest slice that the scheduler grants (`kernel/sched/syscalls.c`).
const SHORTEST: Duration = Duration::from_micros(100);

/// Gives the calling thread the shortest slice. It runs for a moment whenever something happens, and a thread with a shorter
/// slice preempts one with a longer one when it wakes up, so that on a host whose CPUs are taken it waits for microseconds
/// rather than for milliseconds. It gets no more CPU time than before.
///
/// Kernels before 6.12 take the call and change nothing; where it is refused, all stays as it was. A thread with a real-time
/// policy is left alone. Neither threads nor processes that the thread starts inherit the slice, nor a negative nice value.
pub fn shorten() {
    let size = size_of::<libc::sched_attr>() as u32;
    // SAFETY: a structure of numbers, for which zeros are valid.
    let mut of_thread: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most `size` bytes. Thread 0 is the calling one.
    if unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut of_thread, size, 0) } != 0
        || of_thread.sched_policy != libc::SCHED_OTHER as u32
    {
        return;
    }
    of_thread.sched_flags = libc::SCHED_FLAG_RESET_ON_FORK as u64;
    of_thread.sched_runtime = SHORTEST.as_nanos() as u64;
    // SAFETY: the kernel reads the structure, which says how long it is.
    if unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const of_thread, 0) } != 0 {
        tracing::debug!("the slice stays as it is: {}", std::io::Error::last_os_error());
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command, thread};

    use super::*;

    /// The slice of a thread in nanoseconds; None where the kernel does not show it.
    fn slice(of: &str) -> Option<u64> {
        let shown = fs::read_to_string(format!("/proc/{of}/sched")).ok()?;
        let line = shown.lines().find(|line| line.starts_with("se.slice"))?;
        line.rsplit(':').next()?.trim().parse().ok()
    }

    #[test]
    fn a_thread_has_a_short_slice_and_what_it_starts_has_not() {
        let slices = thread::spawn(|| {
            let before = slice("thread-self")?;
            shorten();
            let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
            let of_child = slice(&child.id().to_string());
            child.kill().unwrap();
            child.wait().unwrap();
            let of_thread = thread::spawn(|| slice("thread-self")).join().unwrap();
            Some((before, slice("thread-self")?, of_thread?, of_child?))
        });
        // `/proc/PID/sched` is there with CONFIG_SCHED_DEBUG, and has the slice from 6.12 on.
        let Some((before, now, of_thread, of_child)) = slices.join().unwrap() else { return };
        assert_eq!(u128::from(now), SHORTEST.as_nanos());
        assert_eq!((of_thread, of_child), (before, before));
    }
}
