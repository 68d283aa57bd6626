//! What a service did in a span of time, as sums: minutes first, then hours, then days. Reports are made from them.

mod collector;

pub use collector::Collector;

/// The spans of the sums, in seconds. UTC has no leap seconds here, so that a longer one consists of whole shorter ones.
pub const MINUTE: i64 = 60;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// How a moment of a service counts. Each moment counts once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Healthy,
    /// It works, but not as it should: slow, or above a limit.
    Degraded,
    /// It fails, does not run, or has to prove healthy after that.
    Down,
    /// It was stopped on purpose.
    Stopped,
    /// An operator's pause is in force, whatever its state.
    Paused,
    /// A window of its maintenance is open, whatever its state.
    Maintenance,
    /// A drill has it fail.
    Drilled,
    /// It starts without having failed, or hostprobe cannot see how it is.
    Unknown,
}

impl Class {
    pub const ALL: [Self; 8] = [
        Self::Healthy,
        Self::Degraded,
        Self::Down,
        Self::Stopped,
        Self::Paused,
        Self::Maintenance,
        Self::Drilled,
        Self::Unknown,
    ];
}

/// What is counted of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Probes that reached for the service.
    Probes,
    FailedProbes,
    /// Restarts of incidents that were carried out; not those on an operator's request.
    Restarts,
    FailedRestarts,
    /// How often a restart was held on purpose.
    HeldRestarts,
}

impl Count {
    pub const ALL: [Self; 5] =
        [Self::Probes, Self::FailedProbes, Self::Restarts, Self::FailedRestarts, Self::HeldRestarts];
}

/// The sums of a span, or a change of them, which can be below zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Microseconds, in the order of [`Class::ALL`].
    pub times: [i64; Class::ALL.len()],
    /// In the order of [`Count::ALL`].
    pub counts: [i64; Count::ALL.len()],
}

impl Totals {
    pub fn time(&self, class: Class) -> i64 {
        self.times[class as usize]
    }

    pub fn count(&self, count: Count) -> i64 {
        self.counts[count as usize]
    }

    /// The microseconds in which hostprobe watched the service.
    pub fn watched(&self) -> i64 {
        self.times.iter().fold(0, |sum, time| sum.saturating_add(*time))
    }

    pub fn add_time(&mut self, class: Class, micros: i64) {
        let time = &mut self.times[class as usize];
        *time = time.saturating_add(micros);
    }

    pub fn add_count(&mut self, count: Count) {
        let count = &mut self.counts[count as usize];
        *count = count.saturating_add(1);
    }

    pub fn add(&mut self, more: &Self) {
        let times = self.times.iter_mut().zip(&more.times);
        let counts = self.counts.iter_mut().zip(&more.counts);
        times.chain(counts).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
    }

    /// These sums as a span of so many seconds can have them. A wall clock that is set back shows the same minutes twice:
    /// their shares stay then, and their sum is the span.
    pub fn within(mut self, seconds: i64) -> Self {
        self.times.iter_mut().chain(&mut self.counts).for_each(|sum| *sum = (*sum).max(0));
        let most = i128::from(seconds) * 1_000_000;
        let watched: i128 = self.times.iter().map(|time| i128::from(*time)).sum();
        if watched > most {
            for time in &mut self.times {
                *time = i64::try_from(i128::from(*time) * most / watched).unwrap_or(i64::MAX);
            }
        }
        self
    }
}

/// What a service did in a minute, or a change of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollup {
    pub service: String,
    /// The beginning of the minute, in seconds since 1970 (UTC).
    pub start: i64,
    pub totals: Totals,
}

#[cfg(test)]
mod tests;
