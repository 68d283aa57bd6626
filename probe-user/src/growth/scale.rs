//! One scale of a series: blocks of equal length, and the growth that they show.

use std::{
    collections::{VecDeque, vec_deque::Iter},
    time::Duration,
};

use super::{
    forecast::Forecast,
    slope::{self, Slope},
};

/// Blocks that a scale keeps, the one under way included.
const BLOCKS: usize = 32;

/// Blocks that a maximum and a minimum go over. A saw-tooth whose period is shorter than all but one of them is level.
const SMOOTHED: usize = 4;

/// The fewest blocks that say anything.
const BLOCKS_MIN: usize = 7;

/// A fall by this part of the rise before it is no noise.
const FALL: f64 = 0.3;

/// The fewest steps of a rise, the smallest part of it that is one, and the largest that one of them may be.
const STEPS: usize = 4;
const STEP_MIN: f64 = 0.01;
const STEP_MAX: f64 = 0.4;

/// The part of the rise that the lowest values have to show as well.
const FLOOR: f64 = 0.3;

/// The values before a gap of so many blocks do not count.
const GAP: f64 = 8.0;

/// After so many blocks, the levels that it came down from are those of the last period.
const PERIOD: usize = 2 * BLOCKS;

/// The longest time that is given, in seconds: it stands for all longer ones.
const LEFT_MAX: f64 = 1e9;

/// The lowest and the highest value of a block or of several.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// The number of the last block, counted from boot.
    number: f64,
    low: f64,
    high: f64,
}

#[derive(Clone, Debug)]
pub struct Scale {
    /// The length of a block.
    seconds: f64,
    /// Oldest first. The last one is under way.
    blocks: VecDeque<Block>,
    /// The highest levels that it came down from, in this period and in the one before.
    survived: [f64; 2],
    /// Blocks of this period.
    of_period: usize,
}

impl Scale {
    pub fn new(seconds: f64) -> Self {
        let blocks = VecDeque::with_capacity(BLOCKS);
        Self { seconds, blocks, survived: [f64::NEG_INFINITY; 2], of_period: 0 }
    }

    /// Forgets the values, but not the levels that it came down from.
    pub fn clear(&mut self) {
        self.blocks.clear();
    }

    /// Takes values of a moment, in seconds since boot.
    pub fn add(&mut self, at: f64, low: f64, high: f64) {
        let number = (at / self.seconds).floor();
        if let Some(last) = self.blocks.back_mut() {
            if last.number == number {
                last.low = last.low.min(low);
                last.high = last.high.max(high);
                return;
            }
            if number - last.number > GAP {
                self.blocks.clear();
            }
        }
        self.note_survived();
        if self.blocks.len() == BLOCKS {
            self.blocks.pop_front();
        }
        self.blocks.push_back(Block { number, low, high });
    }

    /// The highest level that it came down from by itself.
    pub fn survived(&self) -> f64 {
        self.survived[0].max(self.survived[1])
    }

    fn note_survived(&mut self) {
        self.of_period += 1;
        if self.of_period == PERIOD {
            self.of_period = 0;
            self.survived = [f64::NEG_INFINITY, self.survived[0]];
        }
        let (mut lowest, mut peak) = (f64::INFINITY, f64::NEG_INFINITY);
        for Block { high, .. } in self.smoothed() {
            if high < peak - FALL * (peak - lowest) {
                self.survived[0] = self.survived[0].max(peak);
            }
            peak = peak.max(high);
            lowest = lowest.min(high);
        }
    }

    fn smoothed(&self) -> Vec<Block> {
        let blocks: Vec<Block> = self.blocks.iter().copied().collect();
        let join =
            |a: Block, b: &Block| Block { number: b.number, low: a.low.min(b.low), high: a.high.max(b.high) };
        let windows = blocks.windows(SMOOTHED);
        windows
            .filter_map(|few| few.split_first().map(|(first, rest)| rest.iter().fold(*first, join)))
            .collect()
    }

    /// The growth above the level that it has survived, if that is steady, and `used` times what is left.
    pub fn forecast(&self, ceiling: f64, survived: f64, used: f64) -> Option<Forecast> {
        if self.blocks.len() < BLOCKS_MIN {
            return None;
        }
        let highest = |blocks: Iter<'_, Block>| blocks.map(|it| it.high).fold(f64::NEG_INFINITY, f64::max);
        let base = highest(self.blocks.range(..SMOOTHED)).max(survived);
        let high = highest(self.blocks.range(self.blocks.len() - SMOOTHED..));
        let (rise, left) = (high - base, (ceiling - high).max(0.0));
        // Most series end here, once a minute.
        if rise <= 0.0 || rise < used * left {
            return None;
        }
        let points = self.smoothed();
        let begin = points.iter().rposition(|point| point.high <= base).unwrap_or(0);
        let growth = points.get(begin..)?;
        let (from, last) = (growth.first()?, growth.last()?);
        let floor_rises = last.low - from.low >= FLOOR * (last.high - from.high);
        if !rises_in_steps(growth, rise) || !floor_rises {
            return None;
        }
        let recent = recent_slope(growth, left)?;
        let points: Vec<(f64, f64)> = growth.iter().map(|point| (point.number, point.high)).collect();
        let Slope { least, median, most } = slope::of(&points)?;
        if least <= 0.0 {
            return None;
        }
        let time = |per_block: f64| Duration::from_secs_f64((left / per_block * self.seconds).min(LEFT_MAX));
        Some(Forecast {
            used: last.high,
            ceiling,
            per_hour: median * 3600.0 / self.seconds,
            left: time(median),
            earliest: time(most.max(recent)),
            latest: time(least.min(recent)),
            over: Duration::from_secs_f64((last.number - from.number) * self.seconds),
        })
    }
}

/// Whether a rise is made of several, none of which is most of it.
fn rises_in_steps(growth: &[Block], rise: f64) -> bool {
    let steps = growth.iter().zip(growth.iter().skip(1)).map(|(before, after)| after.high - before.high);
    let count = steps.clone().filter(|step| *step > STEP_MIN * rise).count();
    count >= STEPS && steps.fold(0.0, f64::max) <= STEP_MAX * rise
}

/// The slope of the second half of a growth, per block. None if it does not rise, or levels off below the ceiling: if each
/// half as long falls behind the one before as the second half fell behind the first.
fn recent_slope(growth: &[Block], left: f64) -> Option<f64> {
    let (first, last, middle) = (growth.first()?, growth.last()?, growth.get(growth.len() / 2)?);
    let slope = |from: &Block, to: &Block| (to.high - from.high) / (to.number - from.number).max(1.0);
    let (before, after) = (slope(first, middle), slope(middle, last));
    let ratio = after / before;
    // The sum of a geometric series.
    let levels_off = ratio < 1.0 && (last.high - middle.high) * ratio / (1.0 - ratio) < left;
    (after > 0.0 && !levels_off).then_some(after)
}
