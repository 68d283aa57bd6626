//! Whether the host is overloaded. A restart of a slow service would then make it slower.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    clock::Timestamp,
    fact::{Pressure, ServiceId},
};

/// Above these shares of the time (PSI) the host is under pressure. On a host that does useful work on all its
/// CPUs, tasks wait for a CPU about half of the time. A host that swaps or waits for a dying disk stalls as a
/// whole.
const CPU: f64 = 0.75;
const MEMORY: f64 = 0.3;
const IO: f64 = 0.5;

/// A control probe that is later than this shows that other probes are late too.
const LATE: Duration = Duration::from_millis(300);

/// hostprobe is so late that it takes an answer in time for a timeout: many timeouts are no longer.
const TOO_LATE: Duration = Duration::from_secs(1);

/// How long pressure counts after it was measured, because probes that began under pressure end later.
const LASTS: Duration = Duration::from_secs(5);

/// So many services that time out together, and at least half of all probed ones, have one cause.
const TOGETHER: usize = 3;

/// If they time out for this long without pressure on the host, the host is not the cause.
const EXCUSED_FOR: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Overload {
    /// Until when the host counts as under pressure, and by what.
    pressed: Option<(Timestamp, String)>,
    /// Until when hostprobe itself counts as too late, and how late it was.
    late: Option<(Timestamp, String)>,
    /// The services whose latest probe timed out.
    timing_out: BTreeSet<ServiceId>,
    /// Since when they are enough to have one cause.
    together_since: Option<Timestamp>,
}

impl Overload {
    pub(super) fn pressure(&mut self, pressure: &Pressure) {
        let share = |value: Option<f64>, limit: f64, what: &str| {
            let share = value.filter(|&share| share >= limit)?;
            Some(format!("{what} {:.0} % of the time", share * 100.0))
        };
        let late = (pressure.late >= LATE)
            .then(|| format!("hostprobe's own control probe was {} ms late", pressure.late.as_millis()));
        if let Some(why) = late.clone().filter(|_| pressure.late >= TOO_LATE) {
            // The next reading and the results of probes are as late.
            let lasts = pressure.late.saturating_mul(2).saturating_add(LASTS);
            self.late = Some((pressure.at.plus(lasts), why));
        }
        let why = late
            .or_else(|| share(pressure.cpu, CPU, "tasks wait for a CPU"))
            .or_else(|| share(pressure.memory, MEMORY, "all tasks wait for memory"))
            .or_else(|| share(pressure.io, IO, "all tasks wait for a disk"));
        if let Some(why) = why {
            self.pressed = Some((pressure.at.plus(LASTS), why));
        }
    }

    /// What the host is short of at `now`.
    pub(super) fn pressed(&self, now: Timestamp) -> Option<&str> {
        self.pressed.as_ref().filter(|(until, _)| now < *until).map(|(_, why)| why.as_str())
    }

    /// How late hostprobe itself is at `now`, if its probes say nothing about a service for that.
    pub(super) fn late(&self, now: Timestamp) -> Option<&str> {
        self.late.as_ref().filter(|(until, _)| now < *until).map(|(_, why)| why.as_str())
    }

    /// Notes whether a service's latest probe timed out.
    pub(super) fn note(&mut self, service: ServiceId, timing_out: bool, now: Timestamp) {
        if timing_out {
            self.timing_out.insert(service);
        } else {
            self.timing_out.remove(&service);
        }
        if self.timing_out.len() < TOGETHER {
            self.together_since = None;
        } else if self.together_since.is_none() || self.pressed(now).is_some() {
            self.together_since = Some(now);
        }
    }

    /// Whether every service whose latest probe timed out is `explained`.
    pub(super) fn is_explained(&self, explained: impl Fn(ServiceId) -> bool) -> bool {
        self.timing_out.iter().all(|&service| explained(service))
    }

    /// Whether so many of `probed` services time out together that none of them is likely the cause. `blames` tells
    /// whether a service has a known other cause.
    pub(super) fn together(
        &self,
        now: Timestamp,
        probed: usize,
        blames: impl Fn(ServiceId) -> bool,
    ) -> Option<String> {
        self.together_since.filter(|since| now.since(*since) < EXCUSED_FOR)?;
        let count = self.timing_out.iter().filter(|service| !blames(**service)).count();
        (count >= TOGETHER && count * 2 >= probed)
            .then(|| format!("{count} of {probed} services time out together"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_counts_for_a_while_after_its_measurement() {
        let at = |seconds: u64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let mut overload = Overload::default();
        overload.pressure(&Pressure { at: at(10), cpu: Some(0.6), ..Pressure::default() });
        assert_eq!(overload.pressed(at(10)), None);
        overload.pressure(&Pressure { at: at(11), cpu: Some(0.9), ..Pressure::default() });
        overload.pressure(&Pressure { at: at(12), ..Pressure::default() });
        assert_eq!(overload.pressed(at(12)), Some("tasks wait for a CPU 90 % of the time"));
        assert_eq!(overload.pressed(at(16)), None);
    }

    #[test]
    fn a_late_daemon_trusts_no_timeout_until_its_probes_are_in_time_again() {
        let at = |seconds: u64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let late = |at, millis| Pressure { at, late: Duration::from_millis(millis), ..Pressure::default() };
        let mut overload = Overload::default();
        overload.pressure(&late(at(10), 900));
        assert_eq!(overload.late(at(10)), None);
        overload.pressure(&late(at(11), 6000));
        // It is read again after six seconds at the earliest, if it stays as late.
        let why = Some("hostprobe's own control probe was 6000 ms late");
        assert_eq!([overload.late(at(11)), overload.late(at(27))], [why; 2]);
        assert_eq!(overload.late(at(28)), None);
    }

    #[test]
    fn services_that_time_out_together_have_one_cause() {
        let at = |seconds: u64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let mut overload = Overload::default();
        for service in 0..3 {
            assert_eq!(overload.together(at(10), 5, |_| false), None);
            overload.note(ServiceId(service), true, at(10));
        }
        let together = |overload: &Overload, probed| overload.together(at(11), probed, |_| false);
        assert_eq!(together(&overload, 5).unwrap(), "3 of 5 services time out together");
        assert_eq!(together(&overload, 7), None, "most are well");
        let blamed = overload.together(at(11), 5, |service| service == ServiceId(1));
        assert_eq!(blamed, None, "one has a known cause");
        assert_eq!(
            overload.together(at(70), 5, |_| false),
            None,
            "the host was without pressure for a minute"
        );
        overload.note(ServiceId(0), false, at(71));
        assert_eq!(together(&overload, 5), None);
    }
}
