//! Writes to a pipe or a socket without a wait: the kernel reports a full one instead of waiting.

use std::{
    io::IoSlice,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::io::{Errno, ReadWriteFlags, pwritev2};

/// In place of an offset: the descriptor's own position, which pipes and sockets do not have.
const NO_OFFSET: u64 = u64::MAX;

/// A longer write was blocked by the other end, such as a reader that splices and holds the pipe, or waited for a CPU.
const LONG: Duration = Duration::from_millis(10);

/// After a long write none is tried for so many times as long: the daemon waits for a thousandth of the time at most.
const PAUSE: u32 = 1000;

#[derive(Debug)]
pub(super) struct Direct {
    stream: OwnedFd,
    /// No write is tried before that; None if none is tried any more.
    from: Option<Instant>,
}

impl Direct {
    pub(super) fn new(stream: OwnedFd) -> Self {
        Self { stream, from: Some(Instant::now()) }
    }

    /// Writes as much of a line as fits, and returns the number of bytes. The writer meets an error again.
    pub(super) fn write(&mut self, line: &[u8]) -> usize {
        let began = Instant::now();
        if self.from.is_none_or(|from| began < from) {
            return 0;
        }
        let written = pwritev2(&self.stream, &[IoSlice::new(line)], NO_OFFSET, ReadWriteFlags::NOWAIT);
        let took = began.elapsed();
        // Older kernels cannot write to a pipe that way (a file without `FMODE_NOWAIT`).
        if written == Err(Errno::OPNOTSUPP) {
            self.from = None;
        } else if took > LONG {
            self.from = took.checked_mul(PAUSE).and_then(|pause| Instant::now().checked_add(pause));
        }
        written.unwrap_or(0)
    }
}
