//! What many durations have in common.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Quantiles of durations by the nearest rank: each is one of the durations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// How many durations there are. With less than 20, the 95th percentile is the longest.
    pub count: usize,
    pub median_ms: f64,
    pub p95_ms: f64,
    pub max_ms: f64,
}

impl Spread {
    /// Of durations in microseconds; None without any.
    pub(super) fn of(mut micros: Vec<i64>) -> Option<Self> {
        micros.sort_unstable();
        let max = *micros.last()?;
        let rank = |percent: usize| (micros.len() * percent).div_ceil(100).max(1);
        let at = |percent: usize| micros.get(rank(percent) - 1).copied().unwrap_or(max);
        Some(Self {
            count: micros.len(),
            median_ms: millis(at(50)),
            p95_ms: millis(at(95)),
            max_ms: millis(max),
        })
    }
}

/// Microseconds in milliseconds.
pub(super) fn millis(micros: i64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantiles(micros: impl IntoIterator<Item = i64>) -> (usize, f64, f64, f64) {
        let Spread { count, median_ms, p95_ms, max_ms } = Spread::of(micros.into_iter().collect()).unwrap();
        (count, median_ms, p95_ms, max_ms)
    }

    #[test]
    fn quantiles_are_the_nearest_ranks() {
        assert_eq!(Spread::of(Vec::new()), None);
        assert_eq!(quantiles([7000]), (1, 7.0, 7.0, 7.0));
        assert_eq!(quantiles([3000, 1000]), (2, 1.0, 3.0, 3.0));
        assert_eq!(quantiles((1..=20).map(|it| it * 1000)), (20, 10.0, 19.0, 20.0));
        assert_eq!(quantiles((1..=21).map(|it| it * 1000)), (21, 11.0, 20.0, 21.0));
        assert_eq!(quantiles((1..=100).map(|it| it * 1000)), (100, 50.0, 95.0, 100.0));
    }
}
