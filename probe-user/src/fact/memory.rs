//! What the engine is to know of a service after a restart of the daemon.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Incident, Order, ProcessKey, Summary, Verdict};
use crate::clock::Timestamp;

/// The part of a service's state that outlives the daemon, besides the operators' orders.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    pub incident: Option<RememberedIncident>,
    /// Further ones of hostprobe itself, which may have several at once.
    pub further: Vec<RememberedIncident>,
    /// The restarts that count against the budget.
    pub spent: Vec<Timestamp>,
    pub wait: Option<RememberedWait>,
    /// What its main process has answered. Another process, or one of another boot, has answered nothing.
    pub answers: Option<RememberedAnswers>,
}

/// The probes that a main process has answered rightly, so that what it does not answer any more is its own failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedAnswers {
    pub process: ProcessKey,
    /// As [`ProbeSettings::question`](super::ProbeSettings::question), in the order of the probes.
    pub questions: Vec<u64>,
}

/// An open incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RememberedIncident {
    /// With a summary that is empty: it is beside it in its parts.
    pub incident: Incident,
    pub summary: Summary,
    pub alerted: bool,
    /// The verdict that the hooks were called with.
    pub called: Option<Verdict>,
    pub degraded: bool,
    /// An alert is due, and an operator's order holds it back.
    pub muted: bool,
    pub acknowledged: Option<Order>,
    pub needs_listener: bool,
    /// When its alert is due, if it is not sent yet.
    pub alert_at: Option<Timestamp>,
}

/// What the engine waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RememberedWait {
    /// The back-off before a restart; without an end, that of a pause.
    Backoff(Option<Timestamp>),
    /// The long back-off once the budget is spent.
    CrashLoop(Timestamp),
    /// A restart was requested, and has led to no main process yet.
    Restart,
}

/// How the clocks of an earlier run relate to the present ones.
#[derive(Clone, Copy, Debug)]
pub struct ClockChange {
    /// The host has not booted since.
    pub same_boot: bool,
    /// Adds to a moment of the earlier run, in nanoseconds: zero in the same boot of the host.
    pub shift: i128,
    /// When the memory was written, by the earlier clock.
    pub written: Timestamp,
    pub now: Timestamp,
}

impl Memory {
    /// Translates its times. What was in the past stays so, and no wait becomes longer than it was.
    pub fn translate(&mut self, clock: ClockChange) {
        // A process of this boot may have the number of one of another.
        self.answers = self.answers.take().filter(|_| clock.same_boot);
        self.spent.iter_mut().for_each(|at| *at = clock.past(*at));
        match &mut self.wait {
            Some(RememberedWait::Backoff(Some(until)) | RememberedWait::CrashLoop(until)) => {
                *until = clock.future(*until);
            }
            Some(RememberedWait::Backoff(None) | RememberedWait::Restart) | None => {}
        }
        self.incidents_mut().for_each(|open| open.translate(clock));
    }

    pub fn incidents(&self) -> impl Iterator<Item = &RememberedIncident> {
        self.incident.iter().chain(&self.further)
    }

    pub fn incidents_mut(&mut self) -> impl Iterator<Item = &mut RememberedIncident> {
        self.incident.iter_mut().chain(&mut self.further)
    }

    /// Its texts that come from outside.
    pub fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        self.incidents_mut().flat_map(|open| {
            let reason = open.acknowledged.as_mut().and_then(|order| order.reason.as_mut());
            let Incident { summary, drill, context, .. } = &mut open.incident;
            open.summary.texts().chain([summary]).chain(drill).chain(context.texts()).chain(reason)
        })
    }
}

impl RememberedIncident {
    /// One whose alert was sent at once.
    pub fn alerted(incident: Incident) -> Self {
        Self {
            summary: incident.summary.as_str().into(),
            incident,
            alerted: true,
            called: None,
            degraded: false,
            muted: false,
            acknowledged: None,
            needs_listener: false,
            alert_at: None,
        }
    }

    fn translate(&mut self, clock: ClockChange) {
        self.incident.translate(clock);
        if let Some(at) = &mut self.alert_at {
            *at = clock.future(*at);
        }
        if let Some(order) = &mut self.acknowledged {
            order.since = clock.past(order.since);
            order.until = order.until.map(|until| clock.future(until));
        }
    }
}

impl Incident {
    /// Translates its beginning.
    pub fn translate(&mut self, clock: ClockChange) {
        let before_boot = clock.before_boot(self.since);
        self.earlier.before_boot = self.earlier.before_boot.saturating_add(before_boot);
        self.since = clock.past(self.since);
    }
}

impl ClockChange {
    fn shifted(&self, at: Timestamp) -> i128 {
        i128::from(at.as_nanos()) + self.shift
    }

    fn past(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_nanos(u64::try_from(self.shifted(at).max(0)).unwrap_or(u64::MAX)).min(self.now)
    }

    fn future(&self, at: Timestamp) -> Timestamp {
        let until = Timestamp::from_nanos(u64::try_from(self.shifted(at).max(0)).unwrap_or(u64::MAX));
        until.min(self.now.plus(at.since(self.written)))
    }

    fn before_boot(&self, at: Timestamp) -> Duration {
        Duration::from_nanos(u64::try_from(-self.shifted(at)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn memory(spent: u64, until: u64) -> Memory {
        let wait = Some(RememberedWait::CrashLoop(at(until)));
        Memory { spent: vec![at(spent)], wait, ..Memory::default() }
    }

    #[test]
    fn times_stay_in_the_same_boot_and_move_with_the_wall_clock_in_another() {
        let (before, mut same) = (memory(900, 1060), memory(900, 1060));
        same.translate(ClockChange { same_boot: true, shift: 0, written: at(1000), now: at(1010) });
        assert_eq!(same, before);
        // The host booted 20 s ago, and the memory was written 30 s ago at 1000 s of the earlier boot.
        let seconds = |seconds: i128| seconds * 1_000_000_000;
        let mut other = memory(900, 1060);
        other.translate(ClockChange {
            same_boot: false,
            shift: seconds(20 - 1030),
            written: at(1000),
            now: at(20),
        });
        assert_eq!(other, memory(0, 50), "a restart before the boot counts as one at the boot");
    }

    #[test]
    fn what_a_process_answered_is_forgotten_with_its_boot() {
        let process = ProcessKey { pid: 7, start: at(900) };
        let answers = Some(RememberedAnswers { process, questions: vec![1, 2] });
        let of = |same_boot| {
            let mut memory = Memory { answers: answers.clone(), ..Memory::default() };
            memory.translate(ClockChange { same_boot, shift: 0, written: at(1000), now: at(1010) });
            memory.answers
        };
        assert_eq!((of(true), of(false)), (answers.clone(), None));
    }

    #[test]
    fn a_memory_of_an_earlier_version_is_read_without_what_it_does_not_know() {
        let earlier = r#"{"incident": null, "further": [], "spent": [900000000000], "wait": null}"#;
        let read: Memory = serde_json::from_str(earlier).unwrap();
        assert_eq!(read, Memory { spent: vec![at(900)], ..Memory::default() });
    }

    #[test]
    fn a_wall_clock_that_is_wrong_makes_no_wait_longer_and_no_past_the_future() {
        let day = 86_400 * 1_000_000_000_i128;
        let mut ahead = memory(900, 1060);
        ahead.translate(ClockChange { same_boot: false, shift: day, written: at(1000), now: at(20) });
        assert_eq!(ahead, memory(20, 80));
        let mut behind = memory(900, 1060);
        behind.translate(ClockChange { same_boot: false, shift: -day, written: at(1000), now: at(20) });
        assert_eq!(behind, memory(0, 0), "a wait that is over");
    }
}
