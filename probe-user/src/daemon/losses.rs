//! What was lost, and how much of it.

use super::Daemon;
use crate::{act::hook::Hooks, clock::Timestamp, fact::Fact};

impl Daemon {
    /// Publishes what was lost since the last time: records of the sensors, calls of hooks, rows of the state file.
    pub(super) fn publish_losses(&mut self) {
        let now = Timestamp::now();
        for loss in self.sensors.losses() {
            self.missed_exits.on_loss(&loss);
            let (class, place) = (loss.class.as_str().to_owned(), loss.place.as_str().to_owned());
            self.publisher.publish(Fact::Loss { class, count: loss.count, place }, now);
        }
        if let Some(count @ 1..) = self.executor.hooks.as_mut().map(Hooks::take_loss) {
            let (class, place) = ("hooks".to_owned(), "the queue of a hook".to_owned());
            self.publisher.publish(Fact::Loss { class, count, place }, now);
        }
        if let Some(store) = &self.executor.store {
            let (count, place) = (store.take_loss(), store.path().display().to_string());
            if count > 0 {
                self.publisher.publish(Fact::Loss { class: "state".to_owned(), count, place }, now);
            }
        }
    }
}
