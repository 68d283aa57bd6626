//! A bounded queue of lines and the thread that writes them, so that a slow reader never stalls detection.
//!
//! The queue is one buffer of whole lines. The writer takes all of it at once: a line that comes alone is written
//! at once, lines that come faster than they can be written go out together.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{MAX_LINE, SinkError, file::EventFile, stdout::Descriptor};
use crate::config::EventOutput;

/// Where lines go in the end.
pub trait Destination: Send + 'static {
    /// Its name in events and errors.
    fn name(&self) -> String;

    /// Writes some of these whole lines and says how many bytes were taken. A broken pipe is final; after any
    /// other error the rest is offered again later.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize>;

    /// Opens it anew, where it can be opened by name.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
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

/// The wait before a failed write is tried again; it doubles up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(5);
const LONGEST_RETRY: Duration = Duration::from_secs(1);

/// A destination with its queue and its writer thread.
#[derive(Debug)]
pub struct Sink {
    shared: Arc<Shared>,
    name: String,
}

#[derive(Debug)]
struct Shared {
    limits: QueueLimits,
    queue: Mutex<Queue>,
    /// There is something for the writer to do.
    work: Condvar,
    /// The writer has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Whole lines that the writer has not taken yet.
    waiting: Vec<u8>,
    waiting_lines: usize,
    /// What the writer has taken and not yet written.
    taken_bytes: usize,
    taken_lines: usize,
    /// Lines lost since the loss was last told, and ever.
    untold: u64,
    lost: u64,
    reopen: bool,
    /// Set by shutdown: write what is there, until then, and end.
    deadline: Option<Instant>,
    /// The destination is gone for good.
    broken: bool,
    ended: bool,
}

impl Queue {
    fn lose(&mut self, lines: usize) {
        self.untold += lines as u64;
        self.lost += lines as u64;
    }
}

impl Sink {
    /// Opens the configured destination.
    pub fn open(output: &EventOutput) -> Result<Self, SinkError> {
        match output {
            EventOutput::Stdout => {
                let stdout = Descriptor::stdout().map_err(|source| SinkError::Stdout { source })?;
                Self::spawn(stdout, QueueLimits::default())
            }
            EventOutput::File(path) => Self::spawn(EventFile::open(path)?, QueueLimits::default()),
        }
    }

    /// Starts the writer of a destination.
    pub fn spawn(destination: impl Destination, limits: QueueLimits) -> Result<Self, SinkError> {
        let name = destination.name();
        let shared =
            Arc::new(Shared { limits, queue: Mutex::default(), work: Condvar::new(), ended: Condvar::new() });
        let writers = Arc::clone(&shared);
        thread::Builder::new()
            .name("emit".to_owned())
            .spawn(move || Writer { shared: writers, destination }.run())
            .map_err(|source| SinkError::Thread { source })?;
        Ok(Self { shared, name })
    }

    /// The destination's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Queues one line, its newline included. Never waits: where there is no room, the line is lost and counted.
    pub fn push(&self, line: &[u8]) {
        let mut queue = self.shared.lock();
        let QueueLimits { lines, bytes } = self.shared.limits;
        if queue.broken
            || queue.waiting_lines + queue.taken_lines >= lines
            || queue.waiting.len() + queue.taken_bytes + line.len() > bytes
        {
            queue.lose(1);
            return;
        }
        queue.waiting.extend_from_slice(line);
        queue.waiting_lines += 1;
        drop(queue);
        self.shared.work.notify_one();
    }

    /// The lines lost since this was last asked, once there is room again to tell; else 0. Room is a half-empty
    /// queue, so that a reader that is just too slow is told in few events rather than in many.
    pub fn take_loss(&self) -> u64 {
        let mut queue = self.shared.lock();
        let QueueLimits { lines, bytes } = self.shared.limits;
        let room = (queue.waiting_lines + queue.taken_lines) * 2 <= lines
            && (queue.waiting.len() + queue.taken_bytes) * 2 <= bytes.saturating_sub(MAX_LINE).max(1);
        if room && !queue.broken { std::mem::take(&mut queue.untold) } else { 0 }
    }

    /// How many lines were ever lost.
    pub fn lost(&self) -> u64 {
        self.shared.lock().lost
    }

    /// Has the destination opened anew before the next write, after something else moved its file away.
    pub fn reopen(&self) {
        self.shared.lock().reopen = true;
        self.shared.work.notify_one();
    }

    /// Writes what is queued and ends, waiting at most `patience`; returns how many lines were ever lost, these
    /// included.
    pub fn shutdown(self, patience: Duration) -> u64 {
        let deadline = Instant::now() + patience;
        let mut queue = self.shared.lock();
        queue.deadline = Some(deadline);
        self.shared.work.notify_one();
        while !queue.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // The writer is stuck in a write; the process ends without it.
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

impl Shared {
    /// The queue stays usable if a thread panicked: it holds plain counts and whole lines.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer<D> {
    shared: Arc<Shared>,
    destination: D,
}

impl<D: Destination> Writer<D> {
    fn run(mut self) {
        let mut lines = Vec::new();
        while self.take(&mut lines) {
            self.deliver(&lines);
        }
        let mut queue = self.shared.lock();
        queue.ended = true;
        self.shared.ended.notify_all();
    }

    /// Waits for lines and takes all of them; false when there will be none.
    fn take(&mut self, lines: &mut Vec<u8>) -> bool {
        lines.clear();
        let shared = Arc::clone(&self.shared);
        let mut queue = shared.lock();
        loop {
            if std::mem::take(&mut queue.reopen) {
                drop(queue);
                if let Err(error) = self.destination.reopen() {
                    tracing::error!("{} could not be reopened: {error}", self.destination.name());
                }
                queue = shared.lock();
                continue;
            }
            if !queue.waiting.is_empty() {
                std::mem::swap(&mut queue.waiting, lines);
                queue.taken_bytes = lines.len();
                queue.taken_lines = std::mem::take(&mut queue.waiting_lines);
                return true;
            }
            if queue.deadline.is_some() {
                return false;
            }
            queue = shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes what was taken, however often it takes to be accepted.
    fn deliver(&mut self, lines: &[u8]) {
        let mut written = 0;
        let mut retry = FIRST_RETRY;
        let mut complained = false;
        while written < lines.len() {
            match self.destination.write(&lines[written..]) {
                Ok(taken) => {
                    written += taken;
                    retry = FIRST_RETRY;
                    let mut queue = self.shared.lock();
                    queue.taken_bytes = lines.len() - written;
                    queue.taken_lines = count(&lines[written..]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    tracing::error!(
                        "{} was closed by its reader; hostprobe keeps watching, but its events are lost",
                        self.destination.name()
                    );
                    self.shared.lock().broken = true;
                    self.give_up();
                    return;
                }
                Err(error) => {
                    // A full pipe that does not block is not worth a word.
                    if !complained && error.kind() != io::ErrorKind::WouldBlock {
                        complained = true;
                        tracing::error!(
                            "{} cannot be written, trying again: {error}",
                            self.destination.name()
                        );
                    }
                    if !self.wait(retry) {
                        self.give_up();
                        return;
                    }
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
        }
        if complained {
            tracing::info!("{} can be written again", self.destination.name());
        }
    }

    /// Waits before another try; false if the sink is to end before that.
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

    /// Counts all that is taken or waiting as lost.
    fn give_up(&mut self) {
        let mut queue = self.shared.lock();
        let lines = queue.taken_lines + queue.waiting_lines;
        queue.lose(lines);
        queue.waiting.clear();
        (queue.taken_bytes, queue.taken_lines, queue.waiting_lines) = (0, 0, 0);
    }
}

fn count(lines: &[u8]) -> usize {
    lines.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests;
