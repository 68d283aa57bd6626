//! Work that may block for ever: on a thread of its own, with a bound on the wait for it.
//!
//! A thread that the kernel holds, in a file of a hung process or on a file system that does not answer, cannot be
//! ended. It must hold up neither the loop nor the end of the daemon: that is why these are not the runtime's threads,
//! which it waits for when it ends. Nor does it panic where no thread can be started, as the runtime does.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout, timeout_at},
};

use crate::time_slice;

/// Threads that wait for further work, at most: probes start in groups of five (`probe/schedule/phases.rs`).
const FREE_MAX: usize = 8;

/// How long such a thread waits.
const FREE_FOR: Duration = Duration::from_secs(15);

/// Why there is no answer; in words that follow a colon.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    #[error("no thread can be started: {0}; raise pids.max or RLIMIT_NPROC")]
    Thread(io::Error),
    /// It panicked.
    #[error("the thread ended early")]
    Ended,
    #[error("no answer within {0:?}")]
    Late(Duration),
}

/// Starts a thread that holds up nothing.
pub fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), NoAnswer> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(NoAnswer::Thread)
}

/// What `work` returns. An answer that comes later than `patience` is dropped.
pub async fn answer<T: Send + 'static>(
    name: &str,
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NoAnswer> {
    let (done, outcome) = oneshot::channel();
    start(name, move || {
        // The caller may have stopped waiting.
        let _ = done.send(work());
    })?;
    within(patience, outcome).await
}

async fn within<T>(patience: Duration, outcome: oneshot::Receiver<T>) -> Result<T, NoAnswer> {
    match timeout(patience, outcome).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(_)) => Err(NoAnswer::Ended),
        Err(_) => Err(NoAnswer::Late(patience)),
    }
}

/// Work of which one part is under way at a time: if the kernel never lets its thread go, no further thread is started.
/// Clones share the turn.
#[derive(Clone, Debug)]
pub struct OneAtATime(Arc<Semaphore>);

impl Default for OneAtATime {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl OneAtATime {
    /// As [`answer`]; `patience` includes the wait for the turn.
    pub async fn answer<T: Send + 'static>(
        &self,
        name: &str,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let until = Instant::now() + patience;
        let turn = timeout_at(until, Arc::clone(&self.0).acquire_owned()).await;
        let turn = turn.map_err(|_| NoAnswer::Late(patience))?;
        let work = move || {
            let _turn = turn;
            work()
        };
        answer(name, until.saturating_duration_since(Instant::now()), work).await
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// A thread that waits for work, and where that is sent.
type Free = (ThreadId, SyncSender<Work>);

/// Threads for short work that comes again and again: to start and end one takes 14 system calls.
///
/// Work never waits for a thread that the kernel holds. It goes to one that is free, or to a new one.
#[derive(Clone, Debug)]
pub struct Threads {
    name: &'static str,
    free: Arc<Mutex<Vec<Free>>>,
    /// How long one waits.
    free_for: Duration,
    /// The next one waits without end.
    next_lasts: Arc<AtomicBool>,
}

impl Threads {
    pub fn new(name: &'static str) -> Self {
        Self { name, free: Arc::default(), free_for: FREE_FOR, next_lasts: Arc::default() }
    }

    /// Threads for urgent work that comes rarely: the first of them waits for it without end.
    pub fn lasting(name: &'static str) -> Self {
        Self { next_lasts: Arc::new(AtomicBool::new(true)), ..Self::new(name) }
    }

    /// As [`answer`], on one of these threads.
    pub async fn answer<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (done, outcome) = oneshot::channel();
        let mut work: Work = Box::new(move || {
            let _ = done.send(work());
        });
        loop {
            // The latest one, whose stack is still in a CPU's cache.
            let Some((_, thread)) = self.free().pop() else {
                let threads = self.clone();
                start(self.name, move || threads.serve(work))?;
                break;
            };
            match thread.try_send(work) {
                Ok(()) => break,
                // It ended as one does that panicked.
                Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => work = back,
            }
        }
        within(patience, outcome).await
    }

    /// Does this work, and then what comes, until nothing has come for a while.
    fn serve(&self, mut work: Work) {
        let own = thread::current().id();
        let (sender, inbox) = sync_channel(1);
        let lasts = self.next_lasts.swap(false, Ordering::Relaxed);
        let patience = if lasts { Duration::MAX } else { self.free_for };
        if lasts {
            time_slice::shorten();
        }
        loop {
            work();
            {
                let mut free = self.free();
                if free.len() >= FREE_MAX {
                    return;
                }
                free.push((own, sender.clone()));
            }
            work = match inbox.recv_timeout(patience) {
                Ok(work) => work,
                Err(_) => {
                    let mut free = self.free();
                    let before = free.len();
                    free.retain(|(thread, _)| *thread != own);
                    let is_taken = free.len() == before;
                    drop(free);
                    // Who took it out has work for it, and sends that at once.
                    match inbox.recv_timeout(if is_taken { FREE_FOR } else { Duration::ZERO }) {
                        Ok(work) => work,
                        Err(_) => return,
                    }
                }
            };
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Free>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As [`answer`], for a caller that has no runtime. It blocks for at most `patience`.
pub fn blocking_answer<T: Send + 'static>(
    name: &str,
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NoAnswer> {
    let (done, outcome) = sync_channel(1);
    start(name, move || {
        let _ = done.send(work());
    })?;
    outcome.recv_timeout(patience).map_err(|error| match error {
        RecvTimeoutError::Timeout => NoAnswer::Late(patience),
        RecvTimeoutError::Disconnected => NoAnswer::Ended,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SHORT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn an_answer_comes_or_the_wait_for_it_ends() {
        assert_eq!(answer("test", LONG, || 5).await.unwrap(), 5);
        let (_held, block) = mpsc::channel::<()>();
        let late = answer("test", SHORT, move || block.recv().is_ok()).await.unwrap_err();
        assert_eq!(late.to_string(), "no answer within 1ms");
        let panics = || std::panic::resume_unwind(Box::new(()));
        let ended: Result<(), NoAnswer> = answer("test", LONG, panics).await;
        assert!(matches!(ended, Err(NoAnswer::Ended)));
    }

    #[tokio::test]
    async fn a_thread_that_never_ends_is_the_only_one() {
        let turns = OneAtATime::default();
        let (held, block) = mpsc::channel::<()>();
        let late = turns.answer("test", SHORT, move || block.recv().is_ok()).await.unwrap_err();
        assert!(matches!(late, NoAnswer::Late(_)));
        let no_turn = turns.clone().answer("test", SHORT, || 5).await.unwrap_err();
        assert_eq!(no_turn.to_string(), "no answer within 1ms");
        drop(held);
        assert_eq!(turns.answer("test", LONG, || 5).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn a_free_thread_is_used_again_and_a_held_one_is_not_waited_for() {
        let threads = Threads::new("test");
        let own = || thread::current().id();
        let first = threads.answer(LONG, own).await.unwrap();
        let is_free = |threads: &Threads| !threads.free().is_empty();
        while !is_free(&threads) {
            tokio::task::yield_now().await;
        }
        assert_eq!(threads.answer(LONG, own).await.unwrap(), first);
        while !is_free(&threads) {
            tokio::task::yield_now().await;
        }
        let (_held, block) = mpsc::channel::<()>();
        let late = threads.answer(SHORT, move || block.recv().is_ok()).await.unwrap_err();
        assert!(matches!(late, NoAnswer::Late(SHORT)));
        assert_ne!(threads.answer(LONG, own).await.unwrap(), first);
    }

    #[tokio::test]
    async fn of_lasting_threads_the_first_waits_without_end() {
        let threads = Threads { free_for: Duration::ZERO, ..Threads::lasting("test") };
        let own = || thread::current().id();
        let waiting = || threads.free().iter().map(|(thread, _)| *thread).collect::<Vec<_>>();
        let first = threads.answer(LONG, own).await.unwrap();
        while waiting() != [first] {
            tokio::task::yield_now().await;
        }
        let (held, block) = mpsc::channel::<()>();
        let busy = threads.answer(LONG, move || block.recv().is_ok());
        let second = async {
            let second = threads.answer(LONG, own).await.unwrap();
            drop(held);
            second
        };
        let (_, second) = tokio::join!(busy, second);
        assert_ne!(first, second);
        while waiting() != [first] {
            tokio::task::yield_now().await;
        }
        assert_eq!(threads.answer(LONG, own).await.unwrap(), first);
    }

    #[tokio::test]
    async fn a_thread_that_panicked_is_replaced() {
        let threads = Threads::new("test");
        let panics = || std::panic::resume_unwind(Box::new(()));
        let ended: Result<(), NoAnswer> = threads.answer(LONG, panics).await;
        assert!(matches!(ended, Err(NoAnswer::Ended)));
        assert_eq!(threads.answer(LONG, || 5).await.unwrap(), 5);
    }

    #[test]
    fn a_caller_without_a_runtime_waits_no_longer() {
        assert_eq!(blocking_answer("test", LONG, || 5).unwrap(), 5);
        let (_held, block) = mpsc::channel::<()>();
        let late = blocking_answer("test", SHORT, move || block.recv().is_ok()).unwrap_err();
        assert!(matches!(late, NoAnswer::Late(SHORT)));
    }
}
