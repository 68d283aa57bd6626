//! Processes that outlive the daemon that a test ends.

use rustix::process::{Pid, Signal, kill_process};

use crate::process::with_argument;

/// Ends all processes with this argument when it is dropped, however the test ends.
#[derive(Debug)]
pub struct Leftovers(pub String);

impl Drop for Leftovers {
    fn drop(&mut self) {
        for pid in with_argument(&self.0).into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
