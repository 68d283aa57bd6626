//! What the descriptor of a process says of it.

use std::{os::fd::AsFd, time::Duration};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Whether the process has ended, or ends within this time: then its pidfd is readable (`pidfd_open(2)`).
pub fn has_ended(pidfd: &impl AsFd, within: Duration) -> bool {
    let mut waiting = [PollFd::new(pidfd, PollFlags::IN)];
    let within = Timespec::try_from(within).ok();
    poll(&mut waiting, within.as_ref()).is_ok_and(|ready| ready > 0)
}
