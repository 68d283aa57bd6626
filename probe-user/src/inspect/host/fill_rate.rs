//! How fast a file system fills, and when it will be full.

use std::{collections::VecDeque, time::Duration};

use crate::clock::Timestamp;

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(60);

/// The samples of an hour. Less says little: a copy or a build fills a disk fast and ends.
const SAMPLES: usize = 60;

/// Of so many parts of the hour, it has to grow in all but one.
const PARTS: usize = 6;

#[derive(Debug, Default)]
pub struct FillRate {
    /// Times and used bytes.
    samples: VecDeque<(Timestamp, u64)>,
}

impl FillRate {
    pub fn add(&mut self, at: Timestamp, used: u64) {
        if self.samples.back().is_some_and(|(last, _)| at.since(*last) < INTERVAL) {
            return;
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((at, used));
    }

    /// When `left` bytes will be used up. None without an hour of samples, or where it does not grow steadily.
    ///
    /// The rate is the lower quartile of those between all pairs of samples, so that a jump or two do not count, and that a
    /// file system which grows by fits has to grow most of the time.
    pub fn time_left(&self, left: u64) -> Option<Duration> {
        if self.samples.len() < SAMPLES || !self.grows_steadily() {
            return None;
        }
        let mut rates: Vec<f64> = Vec::with_capacity(SAMPLES * SAMPLES / 2);
        for (at, &(then, before)) in self.samples.iter().enumerate() {
            for &(now, after) in self.samples.iter().skip(at + 1) {
                rates.push((after as f64 - before as f64) / now.since(then).as_secs_f64());
            }
        }
        rates.sort_by(f64::total_cmp);
        let rate = rates.get(rates.len() / 4).copied().filter(|rate| *rate > 0.0)?;
        Duration::try_from_secs_f64(left as f64 / rate).ok()
    }

    fn grows_steadily(&self) -> bool {
        let used: Vec<u64> = self.samples.iter().map(|(_, used)| *used).collect();
        let grew = used.chunks(SAMPLES / PARTS).filter(|part| part.last() > part.first()).count();
        grew >= PARTS - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// After so many minutes, with what is used at each.
    fn left_after(minutes: u64, left: u64, used: impl Fn(u64) -> u64) -> Option<Duration> {
        let mut rate = FillRate::default();
        for minute in 0..minutes {
            rate.add(Timestamp::from_nanos(minute * 60_000_000_000), used(minute));
        }
        rate.time_left(left)
    }

    #[test]
    fn a_steady_leak_is_announced_after_an_hour() {
        let leak = |minute: u64| 100 * GIB + minute * GIB;
        assert_eq!(left_after(59, 60 * GIB, leak), None);
        let left = left_after(60, 60 * GIB, leak).unwrap();
        assert_eq!(left.as_secs(), 3600);
    }

    #[test]
    fn what_rises_and_falls_or_jumps_once_is_not() {
        let mut saw = (0..60).cycle();
        let values: Vec<u64> = (0..240).map(|_| saw.next().unwrap_or(0)).collect();
        for end in 60..240 {
            // Rotation each 20 minutes: it grows by what it loses again.
            assert_eq!(left_after(end, GIB, |minute| 10 * GIB + minute % 20 * GIB / 4), None, "{end}");
        }
        assert_eq!(values.len(), 240);
        assert_eq!(left_after(60, GIB, |minute| if minute < 30 { GIB } else { 50 * GIB }), None);
        assert_eq!(left_after(60, GIB, |minute| GIB * minute.min(30)), None, "a copy that has ended");
        assert_eq!(left_after(60, GIB, |_| GIB), None);
    }
}
