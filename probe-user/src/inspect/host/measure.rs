//! Measured values, and which of them the engine gets.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    clock::Timestamp,
    fact::{HostCheck, HostReading, HostSubject, Source},
};

/// The longest time that a value has to be at its limit before it is an incident, and a little more. Until then the engine
/// gets each reading.
const UNDECIDED: Duration = Duration::from_secs(360);

/// Later it gets one as often, unless something changes.
const REPEAT: Duration = Duration::from_secs(60);

/// One measurement of a check.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    pub check: HostCheck,
    pub target: String,
    pub value: f64,
    pub limit: f64,
    pub time_left: Option<Duration>,
    pub exhausted: bool,
    pub root_has_room: bool,
    pub device: Option<String>,
    pub words: String,
}

impl Measured {
    /// One of the host as a whole.
    pub fn of_host(check: HostCheck, value: f64, limit: f64, words: String) -> Self {
        Self {
            check,
            target: String::new(),
            value,
            limit,
            time_left: None,
            exhausted: false,
            root_has_room: false,
            device: None,
            words,
        }
    }

    fn reading(self, at: Timestamp) -> HostReading {
        let Self { check, target, value, limit, time_left, exhausted, root_has_room, device, words } = self;
        HostReading {
            at,
            subject: HostSubject { check, target },
            source: Source::Proc,
            value,
            limit,
            time_left,
            exhausted,
            root_has_room,
            device,
            words,
            fault: None,
        }
    }
}

/// What the engine has been told of and not of its end yet.
#[derive(Debug, Default)]
pub struct Reports {
    open: BTreeMap<HostSubject, Report>,
}

#[derive(Debug)]
struct Report {
    first: Timestamp,
    last: HostReading,
}

impl Reports {
    /// The readings for the engine: of what is at its limit, or was until now. `unread` are targets that could not be
    /// measured this time; what is not among them and was not measured either is gone.
    pub fn take(
        &mut self,
        measured: Vec<Measured>,
        unread: impl Fn(&HostSubject) -> bool,
        now: Timestamp,
    ) -> Vec<HostReading> {
        let mut found = Vec::new();
        let mut seen = Vec::new();
        for reading in measured.into_iter().map(|measured| measured.reading(now)) {
            seen.push(reading.subject.clone());
            let known = self.open.get_mut(&reading.subject);
            let share = if known.is_some() { reading.subject.check.clear_share() } else { 1.0 };
            let is_bad = reading.is_bad() || reading.value >= reading.limit * share;
            match known {
                None if !is_bad => {}
                None => {
                    found.push(reading.clone());
                    self.open.insert(reading.subject.clone(), Report { first: now, last: reading });
                }
                Some(_) if !is_bad => {
                    self.open.remove(&reading.subject);
                    found.push(reading);
                }
                Some(report) if report.is_due(&reading, now) => {
                    report.last = reading.clone();
                    found.push(reading);
                }
                Some(_) => {}
            }
        }
        let gone: Vec<HostSubject> =
            self.open.keys().filter(|subject| !seen.contains(subject)).cloned().collect();
        for subject in gone {
            if unread(&subject) {
                if let Some(report) = self.open.get_mut(&subject)
                    && now.since(report.last.at) >= REPEAT
                {
                    report.last.at = now;
                    found.push(report.last.clone());
                }
            } else if let Some(Report { last, .. }) = self.open.remove(&subject) {
                let words = "it is not there any more, or is not checked any more".to_owned();
                found.push(HostReading {
                    at: now,
                    value: 0.0,
                    time_left: None,
                    exhausted: false,
                    words,
                    ..last
                });
            }
        }
        found
    }
}

impl Report {
    fn is_due(&self, reading: &HostReading, now: Timestamp) -> bool {
        let last = &self.last;
        let changed = reading.exhausted != last.exhausted
            || reading.root_has_room != last.root_has_room
            || reading.time_left.is_some() != last.time_left.is_some()
            || (reading.value - last.value).abs() >= last.limit / 100.0;
        changed || now.since(self.first) < UNDECIDED || now.since(last.at) >= REPEAT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn space(value: f64) -> Vec<Measured> {
        let measured = Measured::of_host(HostCheck::Space, value, 90.0, "full".to_owned());
        vec![Measured { target: "/a".to_owned(), ..measured }]
    }

    #[test]
    fn a_healthy_host_says_nothing_and_what_ended_is_said_once() {
        let mut reports = Reports::default();
        let mut take = |value, seconds| {
            let found = reports.take(space(value), |_| false, at(seconds));
            found.into_iter().map(|reading| reading.value).collect::<Vec<f64>>()
        };
        assert_eq!(take(89.9, 0), [0.0; 0]);
        assert_eq!(take(90.0, 10), [90.0]);
        assert_eq!(take(88.0, 20), [88.0], "near its limit it may come back");
        assert_eq!(take(80.0, 30), [80.0]);
        assert_eq!(take(80.0, 40), [0.0; 0]);
    }

    #[test]
    fn what_lasts_is_repeated_now_and_then_and_what_changes_at_once() {
        let mut reports = Reports::default();
        let mut count = 0;
        for round in 0..360 {
            count += reports.take(space(95.0), |_| false, at(round * 10)).len();
        }
        assert_eq!(count, 36 + 54, "each of six minutes, and one a minute of an hour");
        assert_eq!(reports.take(space(96.0), |_| false, at(3601)).len(), 1);
        assert_eq!(reports.take(Vec::new(), |_| true, at(3610)), [], "it does not answer");
        assert_eq!(reports.take(Vec::new(), |_| true, at(3670))[0].value, 96.0);
        assert_eq!(reports.take(Vec::new(), |_| false, at(3680))[0].value, 0.0, "it is unmounted");
        assert_eq!(reports.take(Vec::new(), |_| false, at(3690)), []);
    }
}
