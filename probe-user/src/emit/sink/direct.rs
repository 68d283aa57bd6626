//! Writes to a pipe or a socket without a wait.

use std::{
    io::IoSlice,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::io::{Errno, ReadWriteFlags, pwritev2};

/// In place of an offset: the descriptor's own position, which pipes and sockets do not have.
const NO_OFFSET: u64 = u64::MAX;

/// A longer write was blocked by the other end, such as a reader that splices and holds the pipe.
const LONG: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Direct {
    stream: OwnedFd,
    /// The kernel reports a full pipe instead of waiting. Older kernels cannot (`EOPNOTSUPP` where a file has no
    /// `FMODE_NOWAIT`), and some readers prevent it.
    able: bool,
}

impl Direct {
    pub(super) fn new(stream: OwnedFd) -> Self {
        Self { stream, able: true }
    }

    /// Writes as much of a line as fits, and returns the number of bytes. The writer meets an error again.
    pub(super) fn write(&mut self, line: &[u8]) -> usize {
        if !self.able {
            return 0;
        }
        let began = Instant::now();
        let written = pwritev2(&self.stream, &[IoSlice::new(line)], NO_OFFSET, ReadWriteFlags::NOWAIT);
        self.able = written != Err(Errno::OPNOTSUPP) && began.elapsed() < LONG;
        written.unwrap_or(0)
    }
}
