//! Events that wait until the state file has what they tell of, and a moment for a start that follows from it.

use super::{Publisher, wait::Wait};
use crate::progress::Awaited;

impl Publisher {
    /// A start follows: its report ends the wait for it.
    pub(in crate::daemon) fn await_start(&mut self) {
        self.wait.await_start();
    }

    pub(in crate::daemon) fn start_is_over(&mut self) {
        self.wait.start_is_over();
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
        self.wait.awaits_state()
    }

    /// Renders the events that are held, for those who read the history.
    pub(in crate::daemon) fn render_held(&mut self) {
        self.emitter.render_held();
        self.take_records();
    }
}
