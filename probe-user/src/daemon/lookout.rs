//! Readings of `/proc` that may block, each on a thread of its own and with an end to the wait for it.
//!
//! A file of a process can be locked for as long as that process hangs in the kernel. A thread that is caught so
//! cannot be ended: it must hold up neither the daemon, nor its end, nor more than a few of its kind. That is why
//! these are not the runtime's threads, which it waits for when it ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

/// More readings than this are not under way at once.
const READINGS_MAX: usize = 16;

/// Starts readings, and knows how many are under way.
#[derive(Clone, Debug, Default)]
pub struct Lookout {
    under_way: Arc<AtomicUsize>,
}

/// One reading under way; dropped when it ends, however it does.
struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Lookout {
    /// What `read` returns, or why there is nothing, in words that follow a colon. A reading that takes longer
    /// than `patience` goes on, and nobody hears of it.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        patience: Duration,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let before = self.under_way.fetch_add(1, Ordering::AcqRel);
        let under_way = UnderWay(Arc::clone(&self.under_way));
        if before >= READINGS_MAX {
            return Err(format!(
                "{before} earlier readings of /proc have not ended; look for processes in state D, or hostprobe \
                 is short of CPU time"
            ));
        }
        let (done, outcome) = oneshot::channel();
        let run = move || {
            let _under_way = under_way;
            // Nobody may wait any more.
            let _ = done.send(read());
        };
        thread::Builder::new().name("look".to_owned()).spawn(run).map_err(|error| {
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

    #[tokio::test]
    async fn a_reading_that_blocks_ends_the_wait_and_too_many_are_refused() {
        let lookout = Lookout::default();
        assert_eq!(lookout.read(Duration::from_secs(60), || 5).await, Ok(5));
        let (release, _) = (0..READINGS_MAX).fold((Vec::new(), ()), |(mut all, ()), _| {
            all.push(mpsc::channel::<()>());
            (all, ())
        });
        let (senders, blocks): (Vec<_>, Vec<_>) = release.into_iter().unzip();
        let (ended, mut all_ended) = tokio::sync::mpsc::unbounded_channel();
        for block in blocks {
            let ended = ended.clone();
            let read = move || {
                let _ = block.recv();
                let _ = ended.send(());
            };
            let error = lookout.read(Duration::from_millis(1), read).await.unwrap_err();
            assert!(error.contains("more than 1ms"), "{error}");
        }
        let error = lookout.read(Duration::from_secs(60), || ()).await.unwrap_err();
        assert!(error.contains("16 earlier readings"), "{error}");
        drop(senders);
        for _ in 0..READINGS_MAX {
            all_ended.recv().await.unwrap();
        }
        while lookout.read(Duration::from_secs(60), || ()).await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_reading_that_panics_is_an_error() {
        let lookout = Lookout::default();
        let panics = || {
            if std::env::args().count() > 0 {
                std::panic::resume_unwind(Box::new(()));
            }
        };
        assert!(lookout.read(Duration::from_secs(60), panics).await.unwrap_err().contains("ended early"));
    }
}
