//! Growth towards a ceiling: how fast a resource grows, and how long it has left.
//!
//! A [`Series`] takes the values of one resource. It keeps the lowest and the highest value of blocks of time in several
//! scales, whose blocks are each twice as long as those of the one before. That is at most 8 times 32 blocks, whatever
//! comes in. It does no I/O and has no clock of its own.
//!
//! The highest values count, because the peak reaches the ceiling. Their maximum over a few blocks counts, because a
//! saw-tooth of a shorter period is level in it. A growth is steady if, in any scale,
//!
//! - it is large compared with what is left above its base. The base is the highest level that the service has come down
//!   from by itself, or the level where the growth began: what it has survived before is no danger;
//! - it rose in several steps, none of which is most of it, and its lowest values rose as well;
//! - it does not level off: the second half of it, continued as it fell behind the first, ends above the ceiling.
//!
//! `docs/growth.md` has what that finds, and what it does not.

mod forecast;
mod scale;
mod slope;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::forecast::Forecast;
use self::scale::Scale;
use crate::clock::Timestamp;

const SCALES: u32 = 8;

/// The shortest blocks are this part of the horizon, and not shorter than [`BLOCK_MIN`].
const BLOCKS_OF_HORIZON: u32 = 240;
const BLOCK_MIN: Duration = Duration::from_secs(1);

/// After a start, values do not count for this part of the horizon: caches fill, and code is compiled.
const WARM_UP: u32 = 32;

/// A growth that lasts for less than this part of the horizon is no trend.
const SHORTEST: u32 = 40;

/// A growth counts once it is this large compared with what is left: a third of what there was.
const USED: f64 = 0.5;

/// The same while the series is shorter than [`LEARNING`] horizons: six tenths of what there was. What rises and falls
/// daily has not fallen yet.
const USED_WHILE_LEARNING: f64 = 1.5;
const LEARNING: u32 = 6;

/// The values of one resource.
#[derive(Clone, Debug)]
pub struct Series {
    horizon: Duration,
    /// Values before do not count.
    begins: Timestamp,
    scales: Vec<Scale>,
    first: Option<Timestamp>,
    latest: Option<Timestamp>,
}

impl Series {
    /// The values of a resource whose process began at `start`. `horizon` is how long before the ceiling is reached its
    /// growth matters, and decides how fine the blocks are.
    pub fn new(horizon: Duration, start: Timestamp) -> Self {
        let block = Self::block(horizon).as_secs_f64();
        let scales = (0..SCALES).map(|n| Scale::new(block * f64::from(1_u32 << n))).collect();
        Self { horizon, begins: start.plus(horizon / WARM_UP), scales, first: None, latest: None }
    }

    /// The longest time between two calls of [`Series::add`] that leaves no block without a value.
    pub fn block(horizon: Duration) -> Duration {
        (horizon / BLOCKS_OF_HORIZON).max(BLOCK_MIN)
    }

    /// Another process goes on at `start`. The levels that the earlier one came down from count on.
    pub fn restart(&mut self, start: Timestamp) {
        self.begins = start.plus(self.horizon / WARM_UP);
        self.scales.iter_mut().for_each(Scale::clear);
    }

    /// Takes the lowest and the highest value since the last call.
    pub fn add(&mut self, at: Timestamp, lowest: f64, highest: f64) {
        let is_old = at < self.begins || self.latest.is_some_and(|latest| at < latest);
        if is_old || !lowest.is_finite() || !highest.is_finite() {
            return;
        }
        self.first.get_or_insert(at);
        self.latest = Some(at);
        let seconds = at.as_nanos() as f64 / 1e9;
        for scale in &mut self.scales {
            scale.add(seconds, lowest, highest);
        }
    }

    /// The steady growth with the least time left; None if there is none. [`Forecast::is_within`] says whether it
    /// matters.
    pub fn forecast(&self, ceiling: f64) -> Option<Forecast> {
        let watched = self.first.zip(self.latest).map(|(first, latest)| latest.since(first))?;
        let used = if watched < self.horizon * LEARNING { USED_WHILE_LEARNING } else { USED };
        // A level that it came down from in the long run is no danger in the short run. The peak of a saw-tooth is one
        // in the short run only.
        let mut survived = f64::NEG_INFINITY;
        let mut found: Option<Forecast> = None;
        for scale in self.scales.iter().rev() {
            survived = survived.max(scale.survived());
            let next = scale.forecast(ceiling, survived, used);
            let next = next.filter(|next| next.over >= self.horizon / SHORTEST);
            if next.is_some_and(|next| found.is_none_or(|found| next.latest < found.latest)) {
                found = next;
            }
        }
        found
    }
}
