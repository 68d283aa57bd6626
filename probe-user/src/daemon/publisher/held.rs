//! Events that wait until the state file has what they tell of, and a moment for a start that follows from it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Publisher;
use crate::progress::Awaited;

/// How long held events wait for a start. It takes less, and it has to wait for this thread, which other threads do not
/// interrupt.
const START: Duration = Duration::from_millis(2);

impl Publisher {
    /// A start follows: its report ends the wait for it.
    pub(in crate::daemon) fn await_start(&mut self) {
        self.start_until = Some(Instant::now() + START);
    }

    pub(in crate::daemon) fn start_is_over(&mut self) {
        self.start_until = None;
    }

    /// The state file gets this now. Events that are held wait for it, for no longer than since the first of them.
    pub(in crate::daemon) fn release_after(&mut self, kept: Option<Awaited>) {
        match (kept, self.awaited.take()) {
            (Some(kept), Some(earlier)) => self.awaited = Some(kept.no_later_than(&earlier)),
            (None, None) => self.release(),
            (kept, earlier) => self.awaited = kept.or(earlier),
        }
    }

    /// A future that ends when held events may be written.
    pub(in crate::daemon) fn held(&self) -> impl Future<Output = ()> + use<> {
        let (awaited, start_until) = (self.awaited.clone(), self.start_until);
        async move {
            match awaited {
                Some(kept) => kept.done().await,
                None => std::future::pending().await,
            }
            if let Some(until) = start_until {
                sleep_until(until).await;
            }
        }
    }

    /// Has held events written.
    pub(in crate::daemon) fn release(&mut self) {
        (self.awaited, self.start_until) = (None, None);
        self.render_held();
        self.emitter.release();
    }

    /// Whether events are held, and maybe a restart, until the state file has what they tell of.
    pub(in crate::daemon) fn awaits_state(&self) -> bool {
        self.awaited.is_some()
    }

    /// Renders the events that are held, for those who read the history.
    pub(in crate::daemon) fn render_held(&mut self) {
        self.emitter.render_held();
        self.take_records();
    }
}
