//! Work that may block for ever: on a thread of its own, with a bound on the wait for it.
//!
//! A thread that the kernel holds, in a file of a hung process or on a file system that does not answer, cannot be
//! ended. It must hold up neither the loop nor the end of the daemon: that is why these are not the runtime's threads,
//! which it waits for when it ends. Nor does it panic where no thread can be started, as the runtime does.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread,
    time::Duration,
};

use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout, timeout_at},
};

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

    #[test]
    fn a_caller_without_a_runtime_waits_no_longer() {
        assert_eq!(blocking_answer("test", LONG, || 5).unwrap(), 5);
        let (_held, block) = mpsc::channel::<()>();
        let late = blocking_answer("test", SHORT, move || block.recv().is_ok()).unwrap_err();
        assert!(matches!(late, NoAnswer::Late(SHORT)));
    }
}
