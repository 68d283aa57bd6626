//! The thread that writes queued lines.

use std::{
    io,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use super::queue::Shared;
use crate::{emit::destination::Destination, time_slice};

/// The wait before a failed write is tried again. It doubles up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(5);
const LONGEST_RETRY: Duration = Duration::from_secs(1);

/// The part of a buffer that stays allocated after a storm, in bytes.
const KEPT: usize = 64 * 1024;

/// How often lines are written in a storm. A write of each line would wake the writer for each, which costs more than to render
/// it.
pub(super) const PACE: Duration = Duration::from_millis(1);

/// So many writes may follow each other at once, as for an incident and what is done about it, before they are paced.
pub(super) const UNPACED: u32 = 64;

pub(super) struct Writer<D> {
    shared: Arc<Shared>,
    destination: D,
    /// When the next batch may be written.
    due: Instant,
}

impl<D: Destination> Writer<D> {
    pub(super) fn new(shared: Arc<Shared>, destination: D) -> Self {
        Self { shared, destination, due: earliest(Instant::now()) }
    }

    /// Writes until the sink is shut down or dropped.
    pub(super) fn run(mut self) {
        time_slice::shorten();
        let mut lines = Vec::new();
        while self.take(&mut lines) {
            self.deliver(&lines);
        }
        let mut queue = self.shared.lock();
        queue.ended = true;
        self.shared.ended.notify_all();
    }

    /// Waits for lines and takes all of them: at once, or in a storm with those that come soon. False at the end of the sink.
    fn take(&mut self, lines: &mut Vec<u8>) -> bool {
        lines.clear();
        let shared = Arc::clone(&self.shared);
        let mut queue = shared.lock();
        loop {
            if std::mem::take(&mut queue.reopen) {
                drop(queue);
                if let Err(error) = self.destination.reopen() {
                    tracing::error!("{}: could not reopen: {error}", self.destination.name());
                }
                queue = shared.lock();
                continue;
            }
            if !queue.waiting.is_empty() && (!queue.unflushed || queue.deadline.is_some()) {
                let now = Instant::now();
                let early = self.due.saturating_duration_since(now);
                if !early.is_zero() && queue.deadline.is_none() {
                    (queue, _) =
                        shared.work.wait_timeout(queue, early).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                self.due = self.due.max(earliest(now)) + PACE;
                std::mem::swap(&mut queue.waiting, lines);
                queue.taken_bytes = lines.len();
                queue.taken_lines = std::mem::take(&mut queue.waiting_lines);
                queue.unflushed = false;
                return true;
            }
            if queue.deadline.is_some() {
                return false;
            }
            // The two buffers swap with each batch, so both shrink after a storm.
            lines.shrink_to(KEPT);
            queue.waiting.shrink_to(KEPT);
            queue = shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes the lines, with as many attempts as needed.
    fn deliver(&mut self, lines: &[u8]) {
        let mut written = 0;
        let mut retry = FIRST_RETRY;
        let mut has_warned = false;
        while written < lines.len() {
            match self.destination.write(&lines[written..]) {
                Ok(taken) => {
                    written += taken;
                    retry = FIRST_RETRY;
                    let lost = usize::try_from(self.destination.take_lost()).unwrap_or(usize::MAX);
                    let mut queue = self.shared.lock();
                    // What they were is not known any more.
                    queue.lose(lost, false);
                    queue.taken_bytes = lines.len() - written;
                    queue.taken_lines = count(&lines[written..]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    tracing::error!(
                        "{}: the reader has closed it; hostprobe keeps watching, but its events are lost",
                        self.destination.name()
                    );
                    self.shared.lock().broken = true;
                    self.lose_all();
                    return;
                }
                Err(error) => {
                    // A full pipe is normal and not logged.
                    if !has_warned && error.kind() != io::ErrorKind::WouldBlock {
                        has_warned = true;
                        tracing::error!("{}: cannot write, trying again: {error}", self.destination.name());
                    }
                    if !self.wait(retry) {
                        self.lose_all();
                        return;
                    }
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
        }
        if has_warned {
            tracing::info!("{}: writable again", self.destination.name());
        }
    }

    /// Waits before the next attempt. False if the sink ends before that.
    fn wait(&mut self, retry: Duration) -> bool {
        let until = Instant::now() + retry;
        let mut queue = self.shared.lock();
        loop {
            if queue.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return false;
            }
            let end = queue.deadline.map_or(until, |deadline| deadline.min(until));
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            (queue, _) = self.shared.work.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Counts all taken and waiting lines as lost.
    fn lose_all(&mut self) {
        let mut queue = self.shared.lock();
        let lines = queue.taken_lines + queue.waiting_lines;
        // What they were is not known any more.
        queue.lose(lines, false);
        queue.waiting.clear();
        queue.unflushed = false;
        (queue.taken_bytes, queue.taken_lines, queue.waiting_lines) = (0, 0, 0);
    }
}

/// Where a pace begins that allows [`UNPACED`] writes at once.
fn earliest(now: Instant) -> Instant {
    now.checked_sub(PACE * (UNPACED - 1)).unwrap_or(now)
}

fn count(lines: &[u8]) -> usize {
    lines.iter().filter(|byte| **byte == b'\n').count()
}
