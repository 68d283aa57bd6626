//! Samples in short.

use serde::{Deserialize, Serialize};

/// What is said of a row of samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many samples there were.
    pub count: usize,
    /// The least of them.
    pub min: f64,
    /// A quarter was at most this.
    pub p25: f64,
    /// Half was at most this.
    pub median: f64,
    /// Three quarters were at most this.
    pub p75: f64,
    /// All but one in a hundred were at most this.
    pub p99: f64,
    /// The greatest of them.
    pub max: f64,
}

impl Summary {
    /// Of these samples, in any order; None if there are none. All have to be numbers.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let rank = |part: f64| {
            // The nearest rank: always a sample that was really taken.
            let rank = (part * sorted.len() as f64).ceil() as usize;
            sorted[rank.clamp(1, sorted.len()) - 1]
        };
        Some(Self {
            count: sorted.len(),
            min: *sorted.first()?,
            p25: rank(0.25),
            median: rank(0.5),
            p75: rank(0.75),
            p99: rank(0.99),
            max: *sorted.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let samples: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let all = Summary::of(&samples).expect("there are some");
        let Summary { count, min, p25, median, p75, p99, max } = all;
        assert_eq!(
            (count, [min, p25, median, p75, p99, max]),
            (200, [1.0, 50.0, 100.0, 150.0, 198.0, 200.0])
        );
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[7.0]).map(|one| (one.p25, one.p99)), Some((7.0, 7.0)));
    }
}
