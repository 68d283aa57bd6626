//! A service's timers.

use std::collections::BTreeMap;

use crate::clock::Timestamp;

/// Everything that a service waits for by the clock. Of several due timers, the first in this order comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The incident has lasted long enough for an alert.
    Alert,
    /// An expected listener has been closed for too long.
    ListenerGone,
    /// The daemon does not say whether the service listens on a port that refuses its probe.
    PortCheck,
    /// A service without probes has run for long enough to count as healthy.
    Settled,
    /// No worker has died for long enough.
    WorkersQuiet,
    /// No accept queue has been full for long enough.
    BacklogEmpty,
    /// The context of a fault by lack of memory has come, or takes too long.
    ContextDue,
    /// Nothing else has restarted it for long enough.
    RestartsQuiet,
    /// The main process has outlived its workers.
    WorkerDied,
    /// The grace after a dependency's recovery is over.
    Healing,
    /// A stopped process is examined again.
    Recheck,
    /// systemd has been starting its unit for too long.
    StartOverdue,
    /// The operator's pause ends.
    PauseOver,
    /// The operator's acknowledgement of the incident ends.
    AckOver,
    /// The state of its recovery ends.
    Recovery,
}

/// The life span of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Process,
    Incident,
    Recovery,
    /// An operator's order.
    Order,
}

impl Timer {
    const fn scope(self) -> Scope {
        match self {
            Self::ListenerGone | Self::PortCheck | Self::WorkersQuiet | Self::WorkerDied | Self::Recheck => {
                Scope::Process
            }
            Self::BacklogEmpty | Self::ContextDue => Scope::Incident,
            Self::Alert | Self::Settled | Self::Healing | Self::AckOver => Scope::Incident,
            Self::Recovery | Self::StartOverdue => Scope::Recovery,
            // A restart by something else may be a stop and a start.
            Self::RestartsQuiet => Scope::Order,
            Self::PauseOver => Scope::Order,
        }
    }
}

/// The timers that are set.
#[derive(Debug, Default)]
pub struct Timers(BTreeMap<Timer, Timestamp>);

impl Timers {
    /// Sets a timer, or clears it.
    pub fn set(&mut self, timer: Timer, at: Option<Timestamp>) {
        match at {
            Some(at) => self.0.insert(timer, at),
            None => self.0.remove(&timer),
        };
    }

    pub fn clear(&mut self, timer: Timer) {
        self.0.remove(&timer);
    }

    /// Clears all timers of a scope.
    pub fn end(&mut self, scope: Scope) {
        self.0.retain(|timer, _| timer.scope() != scope);
    }

    pub fn get(&self, timer: Timer) -> Option<Timestamp> {
        self.0.get(&timer).copied()
    }

    pub fn is_set(&self, timer: Timer) -> bool {
        self.0.contains_key(&timer)
    }

    pub fn next(&self) -> Option<Timestamp> {
        self.0.values().min().copied()
    }

    /// Takes the first one that is due at `now`.
    pub fn take_due(&mut self, now: Timestamp) -> Option<Timer> {
        let (&timer, _) = self.0.iter().find(|(_, at)| **at <= now)?;
        self.0.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_are_due_in_order() {
        let at = |seconds: u64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let mut timers = Timers::default();
        timers.set(Timer::Recovery, Some(at(1)));
        timers.set(Timer::Alert, Some(at(2)));
        timers.set(Timer::Recheck, Some(at(9)));
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.take_due(at(2)), Some(Timer::Alert), "the order is that of the enum");
        assert_eq!(timers.take_due(at(2)), Some(Timer::Recovery));
        assert_eq!(timers.take_due(at(2)), None);
        timers.end(Scope::Process);
        assert_eq!(timers.next(), None);
    }
}
