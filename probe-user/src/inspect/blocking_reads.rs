//! Reads of `/proc` that may block, each on its own thread and with a timeout.
//!
//! A file of a process can be locked for as long as that process hangs in the kernel. The number of blocked threads is
//! bounded.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};

use crate::bounded_thread::{self, NoAnswer};

/// The most reads at a time. Further ones wait for a permit.
const READS_MAX: usize = 8;

#[derive(Clone, Debug)]
pub struct BlockingReads {
    permits: Arc<Semaphore>,
}

impl BlockingReads {
    pub(crate) fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(READS_MAX)) }
    }

    /// Whether another read would wait for a permit.
    pub(crate) fn is_busy(&self) -> bool {
        self.permits.available_permits() == 0
    }

    /// Returns the result of `read`, or the reason that there is none, in words that follow a colon. A read that takes
    /// longer than `patience` goes on, and its result is dropped. The wait for a permit is limited by `patience` as
    /// well.
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
        let run = move || {
            let found = read();
            drop(permit);
            found
        };
        bounded_thread::answer("proc-read", patience, run).await.map_err(|error| match error {
            NoAnswer::Thread(_) => format!("/proc cannot be read: {error}"),
            NoAnswer::Ended => "the reading of /proc ended early".to_owned(),
            NoAnswer::Late(_) => format!("reading /proc took more than {patience:?}"),
        })
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
