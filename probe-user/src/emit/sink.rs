//! A bounded queue of lines and its writer thread, so that a slow reader never stalls detection.
//!
//! The queue is one buffer of whole lines. The writer takes all of it at once: a single line is written at once,
//! and lines that come faster are written together. A pipe or a socket with room takes each line directly, which
//! saves its reader the wake-up of the writer.

mod direct;
mod queue;
mod writer;

use std::{
    sync::{Arc, PoisonError},
    thread,
    time::{Duration, Instant},
};

use self::{direct::Direct, queue::Shared, writer::Writer};
use super::{
    MAX_LINE,
    destination::{Destination, QueueLimits},
    error::SinkError,
};

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

    /// Writes one line, with its newline, or queues it. Never waits: without room, the line is lost and counted.
    pub fn push(&self, mut line: &[u8]) {
        let mut queue = self.shared.lock();
        if queue.is_idle()
            && let Some(direct) = &mut queue.direct
        {
            line = &line[direct.write(line)..];
            if line.is_empty() {
                return;
            }
        }
        let QueueLimits { lines, bytes } = self.shared.limits;
        if queue.broken
            || queue.waiting_lines + queue.taken_lines >= lines
            || queue.waiting.len() + queue.taken_bytes + line.len() > bytes
        {
            queue.lose(1);
            return;
        }
        // A writer with waiting lines is awake, so only the first line wakes it.
        let wakes = queue.waiting.is_empty();
        queue.waiting.extend_from_slice(line);
        queue.waiting_lines += 1;
        drop(queue);
        if wakes {
            self.shared.work.notify_one();
        }
    }

    /// The lines lost since the last call, once there is room to report them; else 0. Room means a half-empty
    /// queue, so that a slow reader causes few reports.
    pub fn take_loss(&self) -> u64 {
        let mut queue = self.shared.lock();
        let QueueLimits { lines, bytes } = self.shared.limits;
        let room = (queue.waiting_lines + queue.taken_lines) * 2 <= lines
            && (queue.waiting.len() + queue.taken_bytes) * 2 <= bytes.saturating_sub(MAX_LINE).max(1);
        if room && !queue.broken { std::mem::take(&mut queue.unreported) } else { 0 }
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
