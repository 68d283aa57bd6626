//! A bounded queue of lines and its writer thread, so that a slow reader never stalls detection.
//!
//! The queue is one buffer of whole lines. The writer takes all of it at once: a single line is written at once,
//! and lines that come faster are written together, in a storm once a millisecond. A pipe or a socket with room takes
//! each line directly, which saves its reader the wake-up of the writer.
//!
//! A part of the queue is kept for essential lines, those on incidents, restarts and alerts. They are queued in their
//! order among the others, and are the last to be lost.

mod direct;
mod queue;
mod writer;

use std::{
    sync::{Arc, PoisonError},
    thread,
    time::{Duration, Instant},
};

pub use self::queue::Loss;
use self::{direct::Direct, queue::Shared, writer::Writer};
use super::{
    MAX_LINE,
    destination::{Destination, QueueLimits},
    error::SinkError,
};

/// How much more of the queue is for essential lines alone: some thousand incidents with all that is done about them.
const ESSENTIAL: QueueLimits = QueueLimits { lines: 4096, bytes: 8 << 20 };

/// So many bytes wait for a flush at most.
const UNFLUSHED: usize = 16 << 10;

/// A destination with its queue and its writer thread.
#[derive(Debug)]
pub struct Sink {
    shared: Arc<Shared>,
    name: String,
}

impl Sink {
    pub fn spawn(destination: impl Destination, limits: QueueLimits) -> Result<Self, SinkError> {
        let name = destination.name();
        let shared = Arc::new(Shared::new(limits, destination.stream().map(Direct::new)));
        let writers = Arc::clone(&shared);
        thread::Builder::new()
            .name("emit".to_owned())
            .spawn(move || Writer::new(writers, destination).run())
            .map_err(|source| SinkError::Thread { source })?;
        Ok(Self { shared, name })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes one line, its newline included, or queues it. Never waits: where there is no room, the line is lost and
    /// counted.
    pub fn push(&self, line: &[u8]) {
        self.push_within(line, self.shared.limits, false);
    }

    /// Queues one line, its newline included, without a wake-up of the writer: it waits for a [`flush`](Self::flush), or
    /// for 16 KiB of them.
    pub fn push_unflushed(&self, line: &[u8]) {
        let mut queue = self.shared.lock();
        if !queue.has_room(line.len(), self.shared.limits) {
            queue.lose(1, false);
            return;
        }
        queue.unflushed |= queue.waiting.is_empty();
        queue.append(line);
        if queue.unflushed && queue.waiting.len() >= UNFLUSHED {
            queue.unflushed = false;
            drop(queue);
            self.shared.work.notify_one();
        }
    }

    /// Queues one line, its newline included, until a [`flush`](Self::flush).
    pub fn hold(&self, line: &[u8], essential: bool) {
        let limits = if essential { self.essential_limits() } else { self.shared.limits };
        let mut queue = self.shared.lock();
        if !queue.has_room(line.len(), limits) {
            queue.lose(1, essential);
            return;
        }
        queue.unflushed |= queue.waiting.is_empty();
        queue.append(line);
    }

    fn essential_limits(&self) -> QueueLimits {
        let QueueLimits { lines, bytes } = self.shared.limits;
        QueueLimits {
            lines: lines.saturating_add(ESSENTIAL.lines),
            bytes: bytes.saturating_add(ESSENTIAL.bytes),
        }
    }

    /// Has the lines written that wait.
    pub fn flush(&self) {
        if std::mem::take(&mut self.shared.lock().unflushed) {
            self.shared.work.notify_one();
        }
    }

    /// The same as [`push`](Self::push) for a line that is lost only where there is no room for essential lines either.
    pub fn push_essential(&self, line: &[u8]) {
        self.push_within(line, self.essential_limits(), true);
    }

    fn push_within(&self, mut line: &[u8], limits: QueueLimits, essential: bool) {
        let mut queue = self.shared.lock();
        if queue.is_idle()
            && let Some(direct) = &mut queue.direct
        {
            line = &line[direct.write(line)..];
            if line.is_empty() {
                return;
            }
        }
        if !queue.has_room(line.len(), limits) {
            queue.lose(1, essential);
            return;
        }
        // A writer that has something to take does not wait for more: only the first line has to wake it.
        let wakes = queue.waiting.is_empty() || std::mem::take(&mut queue.unflushed);
        queue.append(line);
        drop(queue);
        if wakes {
            self.shared.work.notify_one();
        }
    }

    /// The lines lost since this was last called, once there is room again for an event about them. Room is a half-empty
    /// queue, so that a reader that is only too slow gets few such events.
    pub fn take_loss(&self) -> Loss {
        let mut queue = self.shared.lock();
        let QueueLimits { lines, bytes } = self.shared.limits;
        let room = (queue.waiting_lines + queue.taken_lines) * 2 <= lines
            && (queue.waiting.len() + queue.taken_bytes) * 2 <= bytes.saturating_sub(MAX_LINE).max(1);
        if room && !queue.broken { std::mem::take(&mut queue.unreported) } else { Loss::default() }
    }

    pub fn waiting(&self) -> usize {
        let queue = self.shared.lock();
        queue.waiting_lines + queue.taken_lines
    }

    pub fn lost(&self) -> u64 {
        self.shared.lock().lost
    }

    /// Reopens the destination before the next write, after a log rotation moved its file.
    pub fn reopen(&self) {
        self.shared.lock().reopen = true;
        self.shared.work.notify_one();
    }

    /// Writes the queued lines and ends, within `patience`. Returns the number of lines ever lost, with those left.
    pub fn shutdown(self, patience: Duration) -> u64 {
        let deadline = Instant::now() + patience;
        let mut queue = self.shared.lock();
        queue.deadline = Some(deadline);
        self.shared.work.notify_one();
        while !queue.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // The writer hangs in a write, so the process ends without it.
                return queue.lost + (queue.waiting_lines + queue.taken_lines) as u64;
            }
            (queue, _) = self.shared.ended.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner);
        }
        queue.lost
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.deadline.get_or_insert_with(Instant::now);
        self.shared.work.notify_one();
    }
}

#[cfg(test)]
mod tests;
