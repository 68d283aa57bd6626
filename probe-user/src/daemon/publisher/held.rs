//! Events that wait until the state file has what they tell of.

use super::Publisher;
use crate::progress::Awaited;

impl Publisher {
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
        let awaited = self.awaited.clone();
        async move {
            match awaited {
                Some(kept) => kept.done().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Has held events written.
    pub(in crate::daemon) fn release(&mut self) {
        self.awaited = None;
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
