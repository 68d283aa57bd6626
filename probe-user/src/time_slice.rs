//! How soon a thread of the daemon gets a CPU that others use.

use std::time::Duration;

/// The slice of threads that run for a moment whenever something happens: longer than what the death of a service takes, so
/// that no other thread interrupts it, and shorter than the usual slice of some 3 ms.
const SLICE: Duration = Duration::from_millis(1);

/// The nice value of the thread that sees and decides.
const AHEAD: i32 = -10;

/// Gives the calling thread a short slice. A thread with a shorter slice preempts one with a longer one when it wakes up, so that
/// on a host whose CPUs are taken it waits for microseconds rather than for milliseconds.
///
/// Kernels before 6.12 take the call and change nothing; where it is refused, all stays as it was. A thread with a real-time
/// policy is left alone. Neither threads nor processes that the thread starts inherit the slice, nor a negative nice value.
pub fn shorten() {
    let Some(mut wanted) = of_this_thread() else { return };
    set(&mut wanted);
}

/// The same, and a nice value that has other threads wait for this one. Meant to be called while the daemon may still do so, and
/// before it starts anything. A nice value that an operator chose stays.
pub fn go_ahead() {
    let Some(mut wanted) = of_this_thread() else { return };
    if wanted.sched_nice == 0 {
        wanted.sched_nice = AHEAD;
        if set(&mut wanted) {
            return;
        }
        wanted.sched_nice = 0;
    }
    set(&mut wanted);
}

/// How the kernel schedules the calling thread. None with another policy than the usual one.
fn of_this_thread() -> Option<libc::sched_attr> {
    let size = size_of::<libc::sched_attr>() as u32;
    // SAFETY: a structure of numbers, for which zeros are valid.
    let mut found: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most `size` bytes. Thread 0 is the calling one.
    let is_read = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut found, size, 0) } == 0;
    (is_read && found.sched_policy == libc::SCHED_OTHER as u32).then_some(found)
}

/// Gives the calling thread this nice value, and a short slice. Whether the kernel allows it.
fn set(wanted: &mut libc::sched_attr) -> bool {
    wanted.sched_flags = libc::SCHED_FLAG_RESET_ON_FORK as u64;
    wanted.sched_runtime = SLICE.as_nanos() as u64;
    // SAFETY: the kernel reads the structure, which says how long it is.
    let is_set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const *wanted, 0) } == 0;
    if !is_set {
        tracing::debug!(
            "nice value {} and slice are refused: {}",
            wanted.sched_nice,
            std::io::Error::last_os_error()
        );
    }
    is_set
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command, thread};

    use rustix::process::{Pid, getpriority_process};

    use super::*;

    /// The slice of a thread in nanoseconds; None where the kernel does not show it.
    fn slice(of: &str) -> Option<u64> {
        let shown = fs::read_to_string(format!("/proc/{of}/sched")).ok()?;
        let line = shown.lines().find(|line| line.starts_with("se.slice"))?;
        line.rsplit(':').next()?.trim().parse().ok()
    }

    /// What a thread has before and after, then what it gives to a thread and to a child of it.
    fn around(change: fn()) -> [(Option<u64>, i32); 4] {
        let nice = |pid| getpriority_process(pid).unwrap();
        let of_thread = move || (slice("thread-self"), nice(None));
        thread::spawn(move || {
            let before = of_thread();
            change();
            let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
            let of_child = (slice(&child.id().to_string()), nice(Pid::from_raw(child.id() as i32)));
            child.kill().unwrap();
            child.wait().unwrap();
            [before, of_thread(), thread::spawn(of_thread).join().unwrap(), of_child]
        })
        .join()
        .unwrap()
    }

    #[test]
    fn a_thread_has_a_short_slice_and_what_it_starts_has_not() {
        let [before, now, of_thread, of_child] = around(shorten);
        assert_eq!((of_thread, of_child), (before, before));
        // `/proc/PID/sched` is there with CONFIG_SCHED_DEBUG, and has the slice from 6.12 on.
        assert!(now.0.is_none_or(|slice| u128::from(slice) == SLICE.as_nanos()));
    }

    #[test]
    fn a_thread_that_goes_ahead_takes_nothing_along() {
        let [before, now, of_thread, of_child] = around(go_ahead);
        assert_eq!((of_thread, of_child), (before, before));
        let is_root = rustix::process::geteuid().is_root();
        assert_eq!(now.1, if is_root && before.1 == 0 { AHEAD } else { before.1 });
    }

    #[test]
    fn a_chosen_nice_value_stays() {
        let chosen = || {
            rustix::process::setpriority_process(None, 7).unwrap();
            go_ahead();
        };
        assert_eq!(around(chosen)[1].1, 7);
    }
}
