//! How long held events wait.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::progress::Awaited;

/// How long held events wait for a start. It takes less, and it has to wait for this thread, which other threads do not
/// interrupt.
const START: Duration = Duration::from_millis(2);

/// What held events wait for.
#[derive(Debug, Default)]
pub(super) struct Wait {
    /// What the state file is to have.
    state: Option<Awaited>,
    /// Until then also for a start.
    start: Option<Instant>,
}

impl Wait {
    /// Also waits for this, for no longer than since the first of them.
    pub(super) fn extend(&mut self, kept: Option<Awaited>) {
        self.state = match (kept, self.state.take()) {
            (Some(kept), Some(earlier)) => Some(kept.no_later_than(&earlier)),
            (kept, earlier) => kept.or(earlier),
        };
    }

    pub(super) fn await_start(&mut self) {
        self.start = Some(Instant::now() + START);
    }

    pub(super) fn start_is_over(&mut self) {
        self.start = None;
    }

    pub(super) fn awaits_state(&self) -> bool {
        self.state.is_some()
    }

    /// A future that ends with the wait; never if nothing is held.
    pub(super) fn over(&self) -> impl Future<Output = ()> + use<> {
        let (state, start) = (self.state.clone(), self.start);
        async move {
            match state {
                Some(kept) => kept.done().await,
                None => std::future::pending().await,
            }
            if let Some(until) = start {
                sleep_until(until).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;

    const LONG: Duration = Duration::from_secs(60);

    /// A wait for what is kept already.
    fn kept() -> Wait {
        let (progress, mut wait) = (Progress::default(), Wait::default());
        wait.extend(progress.until(1, LONG));
        progress.set(1);
        wait
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_waits_for_a_start_and_no_longer() {
        let (begin, mut wait) = (Instant::now(), kept());
        wait.await_start();
        wait.over().await;
        assert!((START..2 * START).contains(&begin.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_is_over_is_not_waited_for() {
        let (begin, mut wait) = (Instant::now(), kept());
        wait.await_start();
        wait.start_is_over();
        wait.over().await;
        assert!(begin.elapsed() < START);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_held_is_never_over() {
        let mut wait = Wait::default();
        wait.await_start();
        assert!(tokio::time::timeout(LONG, wait.over()).await.is_err());
    }
}
