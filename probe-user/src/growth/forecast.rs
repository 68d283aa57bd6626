//! What a steady growth comes to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A steady growth, and when it reaches its ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// The highest recent value.
    pub used: f64,
    pub ceiling: f64,
    pub per_hour: f64,
    /// Until the ceiling is reached at that slope; zero if it is reached.
    pub left: Duration,
    /// At the steepest slope of its interval.
    pub earliest: Duration,
    /// At the flattest slope of its interval.
    pub latest: Duration,
    /// The time that it has been growing for.
    pub over: Duration,
}

impl Forecast {
    /// Whether the ceiling is reached within the horizon, also at the flattest slope.
    pub fn is_within(&self, horizon: Duration) -> bool {
        self.latest <= horizon
    }
}
