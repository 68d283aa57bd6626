//! When in its interval each probe runs.
//!
//! A probe that wakes a CPU and finds its caches cold takes three times the CPU time of one that follows another. So
//! a few of one interval begin together, and it is such groups that are spread: the load is as even with many
//! services as if each had a time of its own.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// So many probes begin together. All run on one thread, so that the last of them waits for the others: for less
/// than a millisecond.
const TOGETHER: u32 = 5;

/// The first runs of all probes are spread over this long, so that they do not all fire at once.
const SPREAD: Duration = Duration::from_secs(1);

/// Gives probes their times.
#[derive(Debug)]
pub(super) struct Phases {
    /// All ticks are counted from here: those of a group are the same instant, for which the runtime wakes once.
    epoch: Instant,
    groups: u32,
    /// The group of each interval that still takes members, and how many it has.
    open: HashMap<Duration, (u32, u32)>,
}

impl Phases {
    pub(super) fn new(epoch: Instant) -> Self {
        Self { epoch, groups: 0, open: HashMap::new() }
    }

    /// When another probe of this interval first runs.
    pub(super) fn next(&mut self, interval: Duration) -> Instant {
        let (group, members) = self.open.entry(interval).or_insert((0, TOGETHER));
        if *members >= TOGETHER {
            (*group, *members) = (self.groups, 0);
            self.groups = self.groups.wrapping_add(1);
        }
        *members += 1;
        self.epoch + part(*group, interval.min(SPREAD))
    }
}

/// Where in a span the group of this number has its place: 0, 1/2, 1/4, 3/4, 1/8 … of it, so that the first so many are
/// spread evenly, however many there are to be.
fn part(group: u32, span: Duration) -> Duration {
    let nanos = (span.as_nanos() * u128::from(group.reverse_bits())) >> u32::BITS;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How long after the epoch each of so many probes of one interval first runs.
    fn times(count: usize, interval: Duration) -> Vec<Duration> {
        let epoch = Instant::now();
        let mut phases = Phases::new(epoch);
        (0..count).map(|_| phases.next(interval) - epoch).collect()
    }

    #[test]
    fn a_few_probes_begin_together_and_their_groups_apart() {
        let [zero, half, quarter] = [Duration::ZERO, SECOND / 2, SECOND / 4];
        assert_eq!(times(12, SECOND), [[zero; 5].as_slice(), &[half; 5], &[quarter; 2]].concat());
    }

    #[test]
    fn many_are_spread_evenly_and_never_more_at_once() {
        let times = times(1000, 10 * SECOND);
        assert!(times.iter().all(|at| *at < SECOND));
        for part in 0..100 {
            let from = SECOND / 100 * part;
            let within = times.iter().filter(|at| **at >= from && **at < from + SECOND / 100).count();
            assert!((5..=20).contains(&within), "{within} of 1,000 in part {part} of 100");
        }
        let most = times.iter().map(|at| times.iter().filter(|other| *other == at).count()).max();
        assert_eq!(most, Some(5));
    }

    #[test]
    fn probes_of_another_interval_have_a_time_of_their_own() {
        let epoch = Instant::now();
        let mut phases = Phases::new(epoch);
        let mut at = |interval| phases.next(interval) - epoch;
        assert_eq!([at(SECOND), at(10 * SECOND), at(SECOND)], [Duration::ZERO, SECOND / 2, Duration::ZERO]);
        assert_eq!(at(SECOND / 5), SECOND / 20, "a quarter of a short one");
    }
}
