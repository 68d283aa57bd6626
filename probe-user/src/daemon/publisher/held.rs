//! Events that wait until the state file has what they tell of, and a moment for a start that follows from it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Publisher;
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
    fn extend(&mut self, kept: Option<Awaited>) {
        self.state = match (kept, self.state.take()) {
            (Some(kept), Some(earlier)) => Some(kept.no_later_than(&earlier)),
            (kept, earlier) => kept.or(earlier),
        };
    }

    /// A future that ends with the wait; never if nothing is held.
    fn over(&self) -> impl Future<Output = ()> + use<> {
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

impl Publisher {
    /// A start follows: its report ends the wait for it.
    pub(in crate::daemon) fn await_start(&mut self) {
        self.wait.start = Some(Instant::now() + START);
    }

    pub(in crate::daemon) fn start_is_over(&mut self) {
        self.wait.start = None;
    }

    /// The state file gets this now. Events that are held wait for it.
    pub(in crate::daemon) fn release_after(&mut self, kept: Option<Awaited>) {
        self.wait.extend(kept);
        if !self.awaits_state() {
            self.release();
        }
    }

    /// A future that ends when held events may be written.
    pub(in crate::daemon) fn held(&self) -> impl Future<Output = ()> + use<> {
        self.wait.over()
    }

    /// Has held events written.
    pub(in crate::daemon) fn release(&mut self) {
        self.wait = Wait::default();
        self.render_held();
        self.emitter.release();
    }

    /// Whether events are held, and maybe a restart, until the state file has what they tell of.
    pub(in crate::daemon) fn awaits_state(&self) -> bool {
        self.wait.state.is_some()
    }

    /// Renders the events that are held, for those who read the history.
    pub(in crate::daemon) fn render_held(&mut self) {
        self.emitter.render_held();
        self.take_records();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_waits_for_a_start_and_no_longer() {
        let progress = Progress::default();
        let wait = Wait { state: progress.until(1, LONG), start: Some(Instant::now() + START) };
        let begin = Instant::now();
        progress.set(1);
        wait.over().await;
        assert!((START..2 * START).contains(&begin.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_is_over_is_not_waited_for() {
        let progress = Progress::default();
        let begin = Instant::now();
        let kept = Wait { state: progress.until(1, LONG), start: None };
        progress.set(1);
        kept.over().await;
        assert!(begin.elapsed() < START);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_held_is_never_over() {
        let wait = Wait { state: None, start: Some(Instant::now() + START) };
        assert!(tokio::time::timeout(LONG, wait.over()).await.is_err());
    }
}
