//! The destination of a sink, and the limits of its queue.

use std::{io, os::fd::OwnedFd};

/// A file or a stream that lines are written to.
pub trait Destination: Send + 'static {
    /// Its name in events and errors.
    fn name(&self) -> String;

    /// Writes some of these whole lines, and returns the number of written bytes. A broken pipe is final. After any
    /// other error the sink offers the rest again.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize>;

    /// How many lines it has taken and given up later, since this was asked last.
    fn take_lost(&mut self) -> u64 {
        0
    }

    /// Reopens a destination with a path.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The pipe or socket, if it is one. The sink writes to it without a wait while it has room.
    fn stream(&self) -> Option<OwnedFd> {
        None
    }
}

/// The limits of waiting lines.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    pub lines: usize,
    pub bytes: usize,
}

impl Default for QueueLimits {
    /// Holds a storm of some ten thousand exits, within a few MiB.
    fn default() -> Self {
        Self { lines: 16_384, bytes: 8 << 20 }
    }
}
