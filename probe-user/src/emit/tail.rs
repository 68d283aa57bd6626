//! The latest lines of the event stream, for those who watch it live.
//!
//! Nobody watches for most of the time. Then the emitter keeps nothing, and pays a look at a flag for each event.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

/// The most kept lines. A browser that has lost its connection is back within seconds.
const LINES: usize = 1024;

/// The most kept bytes.
const BYTES: usize = 1 << 20;

/// The most lines that a watcher gets at once.
const BATCH: usize = 128;

/// How long lines are kept after the last watcher went away, so that it can come back without a gap.
const PATIENCE: Duration = Duration::from_secs(60);

/// A line of the stream, with its end.
pub type Line = Arc<[u8]>;

/// The latest lines. Its copies share them.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The sequence of the last event.
    last: AtomicU64,
    /// Whether lines are kept.
    is_wanted: AtomicBool,
    kept: Mutex<Kept>,
    /// The sequence of the last kept line, for watchers that wait.
    grown: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Sequences without a gap.
    lines: VecDeque<Line>,
    bytes: usize,
    /// The sequence of the last of them.
    last: u64,
    watchers: usize,
    /// When the last watcher went away.
    left: Option<Instant>,
}

impl Kept {
    fn clear(&mut self) {
        self.lines = VecDeque::new();
        self.bytes = 0;
    }

    /// The sequence of the first kept line; that of the next one if there is none.
    fn first(&self) -> u64 {
        self.last + 1 - self.lines.len() as u64
    }

    fn add(&mut self, sequence: u64, line: &[u8]) {
        if sequence != self.last + 1 {
            self.clear();
        }
        self.last = sequence;
        self.bytes += line.len();
        self.lines.push_back(line.into());
        while self.lines.len() > LINES || self.bytes > BYTES {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }
}

impl Shared {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // It stays usable if a thread panicked: each line is added in whole or not at all.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    /// Takes in the next line of the stream.
    pub fn add(&self, sequence: u64, line: &[u8]) {
        let shared = &self.shared;
        shared.last.store(sequence, Ordering::Relaxed);
        if !shared.is_wanted.load(Ordering::Relaxed) {
            return;
        }
        let mut kept = shared.kept();
        let is_over = kept.watchers == 0 && kept.left.is_some_and(|left| left.elapsed() > PATIENCE);
        if is_over {
            shared.is_wanted.store(false, Ordering::Relaxed);
            kept.clear();
            return;
        }
        kept.add(sequence, line);
        drop(kept);
        shared.grown.send_replace(sequence);
    }

    /// Watches the stream: from the event after this sequence, else from the next one.
    pub fn watch(&self, after: Option<u64>) -> Watcher {
        let shared = Arc::clone(&self.shared);
        let mut kept = shared.kept();
        kept.watchers += 1;
        shared.is_wanted.store(true, Ordering::Relaxed);
        drop(kept);
        let last = shared.last.load(Ordering::Relaxed);
        // A sequence that is still to come is one of another run.
        let after = after.filter(|after| *after <= last).unwrap_or(last);
        Watcher { grown: shared.grown.subscribe(), shared, after }
    }
}

/// What came since the last look.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// Events that were not kept until this look; they come before the lines.
    pub missed: u64,
    pub lines: Vec<Line>,
    /// The sequence of the last of them.
    pub last: u64,
}

/// One who watches the stream.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    grown: watch::Receiver<u64>,
    /// The sequence of the last event that it got or missed.
    after: u64,
}

impl Watcher {
    /// Waits for further events.
    pub async fn next(&mut self) -> Batch {
        loop {
            self.grown.mark_unchanged();
            if let Some(batch) = self.take() {
                return batch;
            }
            // The sender lives as long as what this watcher shares with it.
            let _ = self.grown.changed().await;
        }
    }

    fn take(&mut self) -> Option<Batch> {
        let kept = self.shared.kept();
        if kept.last <= self.after {
            return None;
        }
        let first = kept.first().max(self.after + 1);
        let missed = first - self.after - 1;
        let skipped = (first - kept.first()) as usize;
        let lines: Vec<Line> = kept.lines.iter().skip(skipped).take(BATCH).cloned().collect();
        self.after = first - 1 + lines.len() as u64;
        Some(Batch { missed, lines, last: self.after })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut kept = self.shared.kept();
        kept.watchers -= 1;
        kept.left = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(tail: &Tail, sequences: std::ops::RangeInclusive<u64>) {
        for sequence in sequences {
            tail.add(sequence, format!("{sequence}\n").as_bytes());
        }
    }

    fn texts(batch: &Batch) -> String {
        batch.lines.iter().map(|line| String::from_utf8_lossy(line).replace('\n', " ")).collect()
    }

    #[tokio::test]
    async fn a_watcher_gets_what_comes_after_it() {
        let tail = Tail::default();
        add(&tail, 1..=5);
        let mut watcher = tail.watch(None);
        add(&tail, 6..=7);
        let batch = watcher.next().await;
        assert_eq!((batch.missed, texts(&batch).as_str(), batch.last), (0, "6 7 ", 7));
        let waits = tokio::spawn(async move { watcher.next().await });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        add(&tail, 8..=8);
        assert_eq!(texts(&waits.await.unwrap()), "8 ");
    }

    #[tokio::test]
    async fn one_that_comes_back_goes_on_where_it_was() {
        let tail = Tail::default();
        let watcher = tail.watch(None);
        add(&tail, 1..=3);
        drop(watcher);
        add(&tail, 4..=5);
        let batch = tail.watch(Some(2)).next().await;
        assert_eq!((batch.missed, texts(&batch).as_str()), (0, "3 4 5 "));
    }

    #[tokio::test]
    async fn what_was_not_kept_is_counted() {
        let tail = Tail::default();
        add(&tail, 1..=10);
        let mut watcher = tail.watch(Some(4));
        add(&tail, 11..=11);
        let batch = watcher.next().await;
        assert_eq!((batch.missed, texts(&batch).as_str()), (6, "11 "));
        add(&tail, 12..=11 + LINES as u64 + 3);
        assert_eq!(watcher.next().await.missed, 3);
    }

    #[tokio::test]
    async fn lines_come_in_batches_and_take_bounded_memory() {
        let tail = Tail::default();
        let mut watcher = tail.watch(None);
        let long = vec![b'x'; 32 << 10];
        (1..=100).for_each(|sequence| tail.add(sequence, &long));
        assert!(tail.shared.kept().bytes <= BYTES);
        assert_eq!(watcher.next().await.missed, 100 - 32);
        add(&tail, 101..=101 + 2 * BATCH as u64);
        assert_eq!(watcher.next().await.lines.len(), BATCH);
        assert_eq!(watcher.next().await.lines.len(), BATCH);
        assert_eq!(watcher.next().await.lines.len(), 1);
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let tail = Tail::default();
        add(&tail, 1..=3);
        assert!(tail.shared.kept().lines.is_empty());
        drop(tail.watch(None));
        tail.shared.kept().left = Instant::now().checked_sub(PATIENCE * 2);
        add(&tail, 4..=6);
        assert!(tail.shared.kept().lines.is_empty());
        assert!(!tail.shared.is_wanted.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_sequence_of_another_run_is_none_of_this_one() {
        let tail = Tail::default();
        add(&tail, 1..=3);
        let mut watcher = tail.watch(Some(4711));
        add(&tail, 4..=4);
        assert_eq!(watcher.next().await, Batch { missed: 0, lines: vec![b"4\n".as_slice().into()], last: 4 });
    }
}
