//! The phase of each probe in its interval.
//!
//! A probe that wakes a CPU and finds its caches cold takes three times the CPU time of a probe that follows another.
//! So a few probes of one interval start together as a group, and the groups are spread. With many services the load
//! is as even as with single probes.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::Instant;

/// The probes of a group. All run on one thread, so the last one waits for the others, for less than a millisecond.
const TOGETHER: u32 = 5;

/// The first runs of all probes are spread over this time, so that they do not all start at once.
const SPREAD: Duration = Duration::from_secs(1);

/// The golden section of 2³²: the distance between the first groups of two intervals.
const GOLDEN: u32 = 0x9E37_79B9;

/// Gives each probe its phase.
#[derive(Debug, Default)]
pub(super) struct Phases {
    epoch: Epoch,
    /// The number of probes of each interval, and the order of the intervals.
    known: HashMap<Duration, (u32, u32)>,
}

/// All ticks are counted from one instant, that of the first probe to run: those of a group are the same, for which the
/// runtime wakes once.
#[derive(Clone, Debug, Default)]
struct Epoch(Arc<OnceLock<Instant>>);

impl Epoch {
    /// It begins now if it has not begun.
    fn instant(&self) -> Instant {
        *self.0.get_or_init(Instant::now)
    }
}

/// The first run of a probe.
#[derive(Debug)]
pub(super) struct Phase {
    epoch: Epoch,
    after: Duration,
}

impl Phases {
    /// The instant that all ticks are counted from.
    pub(super) fn epoch(&self) -> Instant {
        self.epoch.instant()
    }

    /// The phase of another probe of this interval.
    pub(super) fn next(&mut self, interval: Duration) -> Phase {
        let nth = self.known.len() as u32;
        let (members, nth) = self.known.entry(interval).or_insert((0, nth));
        let group = *members / TOGETHER;
        *members = members.wrapping_add(1);
        Phase { epoch: self.epoch.clone(), after: part(group, *nth, interval.min(SPREAD)) }
    }
}

impl Phase {
    /// The instant of it.
    pub(super) fn first(&self) -> Instant {
        self.epoch.instant() + self.after
    }
}

/// Where in a span the group of this number has its place: 0, 1/2, 1/4, 3/4, 1/8 … of it, so that the first so many are
/// spread evenly, however many there are to be; and all that the further on, the later its interval came.
fn part(group: u32, nth: u32, span: Duration) -> Duration {
    let part = group.reverse_bits().wrapping_add(nth.wrapping_mul(GOLDEN));
    let nanos = (span.as_nanos() * u128::from(part)) >> u32::BITS;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How long after the epoch each of so many probes of one interval first runs.
    fn times(count: usize, interval: Duration) -> Vec<Duration> {
        let mut phases = Phases::default();
        (0..count).map(|_| phases.next(interval).after).collect()
    }

    #[test]
    fn a_few_probes_begin_together_and_their_groups_apart() {
        let [zero, half, quarter] = [Duration::ZERO, SECOND / 2, SECOND / 4];
        assert_eq!(times(12, SECOND), [[zero; 5].as_slice(), &[half; 5], &[quarter; 2]].concat());
    }

    /// Whether this number of probes is spread evenly over a second, in hundredths of it.
    fn are_spread(times: &[Duration]) {
        assert!(times.iter().all(|at| *at < SECOND));
        for part in 0..100 {
            let from = SECOND / 100 * part;
            let within = times.iter().filter(|at| **at >= from && **at < from + SECOND / 100).count();
            let even = times.len() / 100;
            assert!((even / 2..=even * 2).contains(&within), "{within} in part {part} of 100");
        }
        let most = times.iter().map(|at| times.iter().filter(|other| *other == at).count()).max();
        assert_eq!(most, Some(TOGETHER as usize));
    }

    #[test]
    fn many_are_spread_evenly_and_never_more_at_once() {
        are_spread(&times(1000, 10 * SECOND));
    }

    #[test]
    fn each_interval_is_spread_and_begins_at_a_time_of_its_own() {
        let mut phases = Phases::default();
        let both: Vec<_> =
            (0..1000).map(|_| [SECOND, 10 * SECOND].map(|interval| phases.next(interval).after)).collect();
        let [short, long] = [0, 1].map(|of| both.iter().map(|both| both[of]).collect::<Vec<_>>());
        are_spread(&short);
        are_spread(&long);
        are_spread(&[short, long].concat());
        let fifth = phases.next(SECOND / 5).after;
        assert!(fifth > Duration::ZERO && fifth < SECOND / 5, "within a short one, got {fifth:?}");
    }

    #[test]
    fn all_are_counted_from_when_the_first_runs() {
        let mut phases = Phases::default();
        let (one, other) = (phases.next(SECOND), phases.next(10 * SECOND));
        let began = Instant::now();
        let first = other.first() - other.after;
        assert!(first >= began && one.first() == first);
    }
}
