//! What a sink writes to, and how much may wait for it.

use std::{io, os::fd::OwnedFd};

/// A file or a stream that lines are written to.
pub trait Destination: Send + 'static {
    /// Its name in events and errors.
    fn name(&self) -> String;

    /// Writes some of these whole lines and says how many bytes were taken. A broken pipe is final; after any
    /// other error the rest is offered again later.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize>;

    /// Reopens it, where it has a path.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// A pipe or a socket, if it is one: what it has room for, it takes without any wait.
    fn stream(&self) -> Option<OwnedFd> {
        None
    }
}

/// How much may wait to be written.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// Lines.
    pub lines: usize,
    /// Bytes.
    pub bytes: usize,
}

impl Default for QueueLimits {
    /// Holds a storm of some ten thousand exits, within a few MiB.
    fn default() -> Self {
        Self { lines: 16_384, bytes: 8 << 20 }
    }
}
