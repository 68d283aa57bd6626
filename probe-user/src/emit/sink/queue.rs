//! The queue of a sink, which its users and its writer thread share.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::direct::Direct;
use crate::emit::destination::QueueLimits;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: QueueLimits,
    pub(super) queue: Mutex<Queue>,
    /// Wakes the writer.
    pub(super) work: Condvar,
    /// The writer has ended.
    pub(super) ended: Condvar,
}

/// How many lines were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    pub usual: u64,
    pub essential: u64,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Whole lines that the writer has not taken yet.
    pub(super) waiting: Vec<u8>,
    pub(super) waiting_lines: usize,
    /// The waiting lines wait for a flush.
    pub(super) unflushed: bool,
    /// Taken by the writer and not written yet.
    pub(super) taken_bytes: usize,
    pub(super) taken_lines: usize,
    /// Lines lost since the last report of a loss, and ever.
    pub(super) unreported: Loss,
    pub(super) lost: u64,
    pub(super) reopen: bool,
    /// Set by shutdown: the writer writes until then and ends.
    pub(super) deadline: Option<Instant>,
    /// Takes lines while nothing waits.
    pub(super) direct: Option<Direct>,
    /// The destination is gone for good.
    pub(super) broken: bool,
    pub(super) ended: bool,
}

impl Queue {
    /// Whether the writer is idle, so that a line may bypass it.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
            && self.taken_lines == 0
            && !self.reopen
            && self.deadline.is_none()
            && !self.broken
    }

    /// Whether so many more bytes of one line fit.
    pub(super) fn has_room(&self, line: usize, QueueLimits { lines, bytes }: QueueLimits) -> bool {
        !self.broken
            && self.waiting_lines + self.taken_lines < lines
            && self.waiting.len() + self.taken_bytes + line <= bytes
    }

    pub(super) fn append(&mut self, line: &[u8]) {
        self.waiting.extend_from_slice(line);
        self.waiting_lines += 1;
    }

    pub(super) fn lose(&mut self, lines: usize, essential: bool) {
        let Loss { usual, essential: reserved } = &mut self.unreported;
        *(if essential { reserved } else { usual }) += lines as u64;
        self.lost += lines as u64;
    }
}

impl Shared {
    pub(super) fn new(limits: QueueLimits, direct: Option<Direct>) -> Self {
        let queue = Mutex::new(Queue { direct, ..Queue::default() });
        Self { limits, queue, work: Condvar::new(), ended: Condvar::new() }
    }

    /// The queue stays usable if a thread panicked: it holds plain counts and whole lines.
    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
