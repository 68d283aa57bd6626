//! SIGTERM and SIGINT end the daemon within [a time](after), whatever hangs.
//!
//! The loop ends it in good order, but the loop may be stuck: in a file system that does not answer, or in a start that
//! is not over. So the handler of the first such signal sets an alarm. The kernel delivers SIGALRM to any thread that
//! can run, and its handler leaves without a further word to anything that could wait.

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// What a good end takes at most, besides the commands under `exec`: 4 s for what they left in their cgroups, 2 s each
/// for the state, the last alerts, the recording and the events.
const SLACK: Duration = Duration::from_secs(15);

/// The deadline of a daemon whose commands may take so long to end. systemd kills what has not ended after 30 s
/// (`TimeoutStopSec=` of the unit), unless the daemon asks for more.
pub fn after(longest_stop: Duration) -> Duration {
    longest_stop.saturating_add(SLACK)
}

const LAST_WORDS: &[u8] =
    b"hostprobe: has not ended in time after the signal to end, because something hangs; it leaves now. Commands \
      under exec may still run\n";

/// The seconds until the alarm; 0 once it is set: another signal must not put it off.
static SECONDS: AtomicU32 = AtomicU32::new(0);

/// Installs the handlers. Those of others, as the runtime's, go on working.
pub fn install(deadline: Duration) -> io::Result<()> {
    SECONDS.store(u32::try_from(deadline.as_secs()).unwrap_or(u32::MAX), Ordering::Relaxed);
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: `alarm(2)` and an atomic may be used in a signal handler (`signal-safety(7)`).
        unsafe { signal_hook_registry::register(signal, on_end) }?;
    }
    // SAFETY: so may `poll(2)`, `write(2)` and `_exit(2)`.
    unsafe { signal_hook_registry::register(libc::SIGALRM, on_alarm) }?;
    Ok(())
}

/// Changes the deadline, unless a signal has set the alarm.
pub fn put(deadline: Duration) {
    let seconds = u32::try_from(deadline.as_secs()).unwrap_or(u32::MAX);
    let change = |before: u32| (before > 0).then_some(seconds);
    let _ = SECONDS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
}

fn on_end() {
    let seconds = SECONDS.swap(0, Ordering::Relaxed);
    if seconds > 0 {
        // SAFETY: it has no precondition.
        unsafe { libc::alarm(seconds) };
    }
}

fn on_alarm() {
    let mut log = libc::pollfd { fd: 2, events: libc::POLLOUT, revents: 0 };
    // SAFETY: the structure and the bytes outlive the calls, and nothing comes after `_exit`. What reads the log may be
    // what hangs: nothing is written where there is no room.
    unsafe {
        if libc::poll(&raw mut log, 1, 0) == 1 && log.revents & libc::POLLOUT != 0 {
            libc::write(2, LAST_WORDS.as_ptr().cast(), LAST_WORDS.len());
        }
        libc::_exit(1)
    }
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Instant};

    use super::*;

    /// Set for the process that hangs.
    const HANGS: &str = "HOSTPROBE_TEST_HANGS";

    #[test]
    fn a_process_that_hangs_ends_after_the_deadline() {
        if std::env::var_os(HANGS).is_some() {
            install(Duration::from_secs(600)).unwrap();
            put(Duration::from_secs(1));
            // SAFETY: it has no precondition.
            unsafe { libc::raise(libc::SIGTERM) };
            loop {
                std::thread::park();
            }
        }
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        let began = Instant::now();
        let hung = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .env(HANGS, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&hung.stderr);
        assert_eq!(hung.status.code(), Some(1), "{text}");
        assert!(text.contains("has not ended in time"), "{text}");
        assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    }
}
