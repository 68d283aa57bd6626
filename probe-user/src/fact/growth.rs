//! Resources of services that can run out, and their growth.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{clock::Timestamp, growth::Forecast};

/// What a service can run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Resource {
    /// Memory that the kernel cannot take back, in bytes.
    Memory,
    /// Open file descriptors of the process that is closest to its limit.
    Fds,
    Threads,
    /// Connections to a database.
    Connections,
}

impl Resource {
    pub const ALL: [Self; 4] = [Self::Memory, Self::Fds, Self::Threads, Self::Connections];

    /// The word used for it in events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Fds => "fds",
            Self::Threads => "threads",
            Self::Connections => "connections",
        }
    }

    /// An amount of it for people.
    pub fn amount(self, value: f64) -> String {
        const MIB: f64 = 1_048_576.0;
        match self {
            Self::Memory if value >= 10_240.0 * MIB => format!("{:.1} GiB", value / 1024.0 / MIB),
            Self::Memory => format!("{:.1} MiB", value / MIB),
            Self::Fds => format!("{value:.0} descriptors"),
            Self::Threads => format!("{value:.0} threads"),
            Self::Connections => format!("{value:.0} connections"),
        }
    }
}

/// What a service used of a resource since the last such observation, and where that ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLevel {
    pub resource: Resource,
    pub lowest: u64,
    pub highest: u64,
    pub ceiling: u64,
    /// What limits it, such as `memory.max of /web.slice`.
    pub limit: String,
}

/// The growth of a service's resource that will reach its limit.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceGrowth {
    pub at: Timestamp,
    pub resource: Resource,
    pub limit: String,
    pub forecast: Forecast,
}

impl ServiceGrowth {
    /// For people, without the service's name.
    pub fn words(&self) -> String {
        let Forecast { used, ceiling, per_hour, left, earliest, latest, over } = self.forecast;
        let amount = |value| self.resource.amount(value);
        let reaches = if left.is_zero() {
            "has reached its limit".to_owned()
        } else {
            let [left, earliest, latest] = [left, earliest, latest].map(time_words);
            format!("reaches its limit in {left} ({earliest} to {latest})")
        };
        format!(
            "it uses {} more an hour and {reaches}: {} of {} are used ({}), after a growth of {}",
            amount(per_hour),
            amount(used),
            amount(ceiling),
            self.limit,
            time_words(over)
        )
    }
}

/// A span for people, in its two largest units.
fn time_words(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, 1..10) => format!("{minutes} min {} s", seconds % 60),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        (_, _, _) => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growth_is_told_with_its_value_limit_slope_and_time_left() {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        let forecast = Forecast {
            used: 512.0 * 1_048_576.0,
            ceiling: 1024.0 * 1_048_576.0,
            per_hour: 256.0 * 1_048_576.0,
            left: minutes(120),
            earliest: minutes(95),
            latest: minutes(160),
            over: minutes(55),
        };
        let growth = ServiceGrowth {
            at: Timestamp::default(),
            resource: Resource::Memory,
            limit: "memory.max of /web".to_owned(),
            forecast,
        };
        assert_eq!(
            growth.words(),
            "it uses 256.0 MiB more an hour and reaches its limit in 2 h 0 min (1 h 35 min to 2 h 40 min): \
             512.0 MiB of 1024.0 MiB are used (memory.max of /web), after a growth of 55 min"
        );
        let full = Forecast { left: Duration::ZERO, ..forecast };
        let full = ServiceGrowth { resource: Resource::Fds, forecast: full, ..growth };
        assert!(
            full.words().contains("descriptors more an hour and has reached its limit"),
            "{}",
            full.words()
        );
    }
}
