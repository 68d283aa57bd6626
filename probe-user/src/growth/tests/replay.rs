//! Values of one resource over days, and what a series says about them.

use std::time::Duration;

use crate::{
    clock::Timestamp,
    growth::{Forecast, Series},
};

pub const MINUTE: f64 = 60.0;
pub const HOUR: f64 = 3600.0;
pub const DAY: f64 = 24.0 * HOUR;

/// The `growth` of all replays.
pub const HORIZON: Duration = Duration::from_secs(4 * 3600);

/// Pseudo-random numbers (splitmix64), the same in each run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// From 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.unit()
    }

    /// Normally distributed, with a deviation of 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// The share of the ceiling in use, from the seconds since the first day began and those since the process started.
pub type Model = Box<dyn FnMut(f64, f64, &mut Random) -> f64>;

/// One resource of one service.
pub struct Resource {
    /// When its process starts again.
    pub restarts: Vec<f64>,
    pub model: Model,
}

#[derive(Default)]
pub struct Outcome {
    /// When the growth was announced for the first time, and with what.
    pub announced: Option<(f64, Forecast)>,
    /// Alerts of each day. A growth that is over can be announced again.
    pub alerts: Vec<u32>,
    /// When the ceiling was reached, which ends the replay.
    pub full: Option<f64>,
    /// The highest value of the first day.
    pub first_day: f64,
    /// When the values passed that for good.
    pub new_high: f64,
}

/// Takes a value every `every` seconds, and asks the series every minute, as the daemon does.
pub fn replay(resource: &mut Resource, every: f64, days: f64, random: &mut Random) -> Outcome {
    // The host has been up for some time.
    let at = |time: f64| Timestamp::from_nanos(((time + 5000.0) * 1e9) as u64);
    let mut series = Series::new(HORIZON, at(0.0));
    let mut outcome = Outcome { alerts: vec![0; days.ceil() as usize], ..Outcome::default() };
    let (mut time, mut start, mut asked, mut was_announced) = (0.0, 0.0, 0.0, false);
    let (mut lowest, mut highest) = (f64::INFINITY, f64::NEG_INFINITY);
    while time < days * DAY {
        if resource.restarts.iter().any(|restart| (time..time + every).contains(restart)) {
            start = time;
            series.restart(at(time));
        }
        let value = (resource.model)(time, time - start, random).max(0.0);
        if value >= 1.0 {
            outcome.full = Some(time);
            break;
        }
        if time < DAY {
            outcome.first_day = outcome.first_day.max(value);
        } else if value <= outcome.first_day {
            outcome.new_high = time;
        }
        (lowest, highest) = (value.min(lowest), value.max(highest));
        time += every;
        if time - asked < MINUTE {
            continue;
        }
        series.add(at(time), lowest, highest);
        (lowest, highest, asked) = (f64::INFINITY, f64::NEG_INFINITY, time);
        let forecast = series.forecast(1.0).filter(|forecast| forecast.is_within(HORIZON));
        if let Some(forecast) = forecast.filter(|_| !was_announced) {
            outcome.announced.get_or_insert((time, forecast));
            if let Some(day) = outcome.alerts.get_mut((time / DAY) as usize) {
                *day += 1;
            }
        }
        was_announced = forecast.is_some();
    }
    outcome
}
