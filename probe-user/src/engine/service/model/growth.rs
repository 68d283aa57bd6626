//! The growth of a service's resources.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    clock::Timestamp,
    fact::{Resource, ResourceLevel, ServiceGrowth},
    growth::{Forecast, Series},
};

/// A growth that is found no more goes on for this part of the horizon: it may be found again.
const GOES_ON: u32 = 16;

/// A growth that has been found goes on until it is this many horizons away from its limit.
const FAR: u32 = 2;

/// Above this part of its limit, a resource that has grown is as good as used up.
const NEARLY_FULL: f64 = 0.95;

/// After a restart of the daemon, a growth that an earlier run found is over if there is none for this part of the horizon.
pub const CONFIRMED_WITHIN: u32 = 8;

#[derive(Debug, Default)]
pub struct Growth {
    resources: BTreeMap<Resource, Growing>,
    horizon: Duration,
    /// The time left that was published last.
    told: Duration,
}

#[derive(Debug)]
struct Growing {
    series: Series,
    limit: String,
    forecast: Option<Forecast>,
    /// How long the growth that was found goes on.
    until: Option<Timestamp>,
    /// What was measured first, and last.
    first: u64,
    latest: u64,
}

impl Growth {
    /// Takes a level of the process that began at `start`.
    pub fn take_in(&mut self, level: &ResourceLevel, horizon: Duration, start: Timestamp, now: Timestamp) {
        if horizon != self.horizon {
            *self = Self { horizon, ..Self::default() };
        }
        let begin = || Growing {
            series: Series::new(horizon, start),
            limit: level.limit.clone(),
            forecast: None,
            until: None,
            first: level.highest,
            latest: level.highest,
        };
        let growing = self.resources.entry(level.resource).or_insert_with(begin);
        if growing.limit != level.limit {
            // What it used was measured elsewhere.
            *growing = begin();
        }
        growing.take_in(level, horizon, now);
    }

    /// Another process goes on at `start`.
    pub fn restart(&mut self, start: Timestamp) {
        for growing in self.resources.values_mut() {
            growing.series.restart(start);
            (growing.forecast, growing.until) = (None, None);
        }
    }

    /// The growth that reaches its limit first, of those that do so within the horizon.
    pub fn exhausting(&self, now: Timestamp) -> Option<ServiceGrowth> {
        let within = self.all(now).filter(|growth| growth.forecast.is_within(self.horizon));
        within.min_by_key(|growth| growth.forecast.latest)
    }

    /// Whether half of the time that was published last is gone.
    pub fn is_worth_telling(&self, growth: &ServiceGrowth) -> bool {
        growth.forecast.left < self.told && growth.forecast.left <= self.told / 2
    }

    pub fn set_told(&mut self, left: Duration) {
        self.told = left;
    }

    /// Each steady growth.
    pub fn all(&self, now: Timestamp) -> impl Iterator<Item = ServiceGrowth> {
        self.resources.iter().filter_map(move |(resource, growing)| {
            let (resource, limit) = (*resource, growing.limit.clone());
            Some(ServiceGrowth { at: now, resource, limit, forecast: growing.forecast? })
        })
    }

    /// Whether a growth that was found goes on.
    pub fn goes_on(&self, now: Timestamp) -> bool {
        self.resources.values().any(|growing| growing.until.is_some_and(|until| now < until))
    }

    /// Whether a resource has grown at all since it was measured first.
    pub fn has_risen(&self) -> bool {
        self.resources.values().any(|growing| growing.latest > growing.first)
    }
}

impl Growing {
    fn take_in(&mut self, level: &ResourceLevel, horizon: Duration, now: Timestamp) {
        self.latest = level.highest;
        let ceiling = level.ceiling as f64;
        self.series.add(now, level.lowest as f64, level.highest as f64);
        self.forecast = self.series.forecast(ceiling);
        let was_found = self.until.is_some_and(|until| now < until);
        let within = if was_found { horizon * FAR } else { horizon };
        let is_found = self.forecast.is_some_and(|forecast| forecast.is_within(within));
        let is_full = was_found && level.highest as f64 >= NEARLY_FULL * ceiling;
        if is_found || is_full {
            self.until = Some(now.plus(horizon / GOES_ON));
        }
    }
}
