//! Readings of `/proc` that may block, each on a thread of its own and with an end to the wait for it.
//!
//! A file of a process can be locked for as long as that process hangs in the kernel. A thread that is caught so
//! cannot be ended: it must hold up neither the daemon, nor its end, nor more than a few of its kind. That is why
//! these are not the runtime's threads, which it waits for when it ends.

use std::{sync::Arc, thread, time::Duration};

use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

/// More readings than this are not under way at once; the others wait for their permit.
const READS_MAX: usize = 8;

/// Starts readings.
#[derive(Clone, Debug)]
pub struct BlockingReads {
    permits: Arc<Semaphore>,
}

impl BlockingReads {
    pub(crate) fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(READS_MAX)) }
    }

    /// Whether another reading would have to wait for its permit.
    pub(crate) fn is_busy(&self) -> bool {
        self.permits.available_permits() == 0
    }

    /// What `read` returns, or why there is nothing, in words that follow a colon. A reading that takes longer
    /// than `patience` goes on, and nobody hears of it; as long may be waited for its permit.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        patience: Duration,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let Ok(Ok(permit)) = timeout(patience, Arc::clone(&self.permits).acquire_owned()).await else {
            return Err(format!(
                "{READS_MAX} earlier readings of /proc have not ended; look for processes in state D, or \
                 whether hostprobe gets CPU time"
            ));
        };
        let (done, outcome) = oneshot::channel();
        let run = move || {
            let found = read();
            drop(permit);
            // Nobody may wait any more.
            let _ = done.send(found);
        };
        let started = thread::Builder::new().name("proc-read".to_owned()).spawn(run);
        started.map_err(|error| {
            format!("no thread can be started to read /proc: {error}; raise pids.max or RLIMIT_NPROC")
        })?;
        match timeout(patience, outcome).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(_)) => Err("the reading of /proc ended early".to_owned()),
            Err(_) => Err(format!("reading /proc took more than {patience:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_reading_that_blocks_ends_the_wait_and_others_wait_for_their_turn() {
        let blocking_reads = BlockingReads::new();
        assert_eq!(blocking_reads.read(LONG, || 5).await, Ok(5));
        let (senders, blocks): (Vec<_>, Vec<_>) = (0..READS_MAX).map(|_| mpsc::channel::<()>()).unzip();
        for block in blocks {
            let error = blocking_reads
                .read(Duration::from_millis(1), move || block.recv().is_ok())
                .await
                .unwrap_err();
            assert!(error.contains("more than 1ms"), "{error}");
        }
        let error = blocking_reads.read(Duration::from_millis(1), || ()).await.unwrap_err();
        assert!(error.contains("8 earlier readings"), "{error}");
        let (next, ()) = tokio::join!(blocking_reads.read(LONG, || 6), async { drop(senders) });
        assert_eq!(next, Ok(6));
    }

    #[tokio::test]
    async fn a_reading_that_panics_is_an_error_and_gives_its_turn_back() {
        let blocking_reads = BlockingReads::new();
        for _ in 0..2 * READS_MAX {
            let panics = || std::panic::resume_unwind(Box::new(()));
            let outcome: Result<(), String> = blocking_reads.read(LONG, panics).await;
            assert!(outcome.unwrap_err().contains("ended early"));
        }
    }
}
