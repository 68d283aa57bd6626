//! Lines that go to a pipe or a socket without a wait.

use std::{
    io::IoSlice,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::io::{Errno, ReadWriteFlags, pwritev2};

/// In place of an offset: the descriptor's own position, which pipes and sockets do not have.
const NO_OFFSET: u64 = u64::MAX;

/// Who waits longer than this was kept waiting by the other end: a reader that splices holds the pipe meanwhile.
const LONG: Duration = Duration::from_millis(10);

/// A pipe or a socket.
#[derive(Debug)]
pub(super) struct Direct {
    stream: OwnedFd,
    /// The kernel says that there is no room instead of waiting for it. Older ones cannot (`EOPNOTSUPP` where a file
    /// has no `FMODE_NOWAIT`), and some readers do not let it.
    able: bool,
}

impl Direct {
    pub(super) fn new(stream: OwnedFd) -> Self {
        Self { stream, able: true }
    }

    /// Writes as much of a line as there is room for, and says how many bytes that was. An error is left for the writer
    /// to find again.
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
