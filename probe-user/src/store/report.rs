//! A report: how available services were in a period, and how their incidents went.

mod spread;
mod uptime;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rollup::{Class, Count, Totals};
use crate::fact::{DrillFault, DrillOutcome, DrillReport};
pub use spread::Spread;
use spread::millis;
pub use uptime::{Part, Span, Uptime, span_of};

/// The most recoveries of a service that are named.
const SLOWEST: usize = 5;

/// The period of a report, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    pub from: i64,
    pub to: i64,
}

/// What was recorded of a service in the period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub service: String,
    /// The beginning of its first record of all, in seconds since 1970.
    pub first: i64,
    pub totals: Totals,
}

/// An incident that was open at some time in the period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastIncident {
    pub id: String,
    pub service: String,
    pub verdict: String,
    /// The time of the fault, in microseconds since 1970.
    pub since: i64,
    pub open: bool,
    /// From the fault to the opening of the incident, in microseconds.
    pub detected: Option<i64>,
    /// From the fault until the service was healthy again, in microseconds; None if it was not, or was stopped instead.
    pub recovered: Option<i64>,
    /// A drill caused it.
    pub is_drill: bool,
    /// When it was over, in microseconds since 1970.
    pub until: Option<i64>,
}

/// How available services were, and how their incidents went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The period: RFC 3339, UTC.
    pub from: String,
    pub to: String,
    /// The services that there are records or incidents of, by name.
    pub services: Vec<ServiceReport>,
    /// The drills that began in the period, the latest first.
    #[serde(default)]
    pub drills: Vec<PastDrill>,
}

/// A drill: a real fault on purpose. The times are in milliseconds since the fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PastDrill {
    pub id: String,
    pub service: String,
    pub fault: DrillFault,
    pub outcome: DrillOutcome,
    /// RFC 3339, UTC.
    pub began: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detected_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acted_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerted_ms: Option<f64>,
}

/// One service in the period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceReport {
    pub service: String,
    /// The share of the time, 0 to 1, in which it worked, of the time in which it was to work and was watched. Absent if there
    /// was no such time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<f64>,
    pub time_ms: Times,
    pub probes: Probes,
    pub incidents: Incidents,
    /// From the fault to the opening of the incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_detect: Option<Spread>,
    /// From the fault until the service was healthy again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_recover: Option<Spread>,
    pub restarts: Restarts,
    /// The slowest first.
    pub slowest_recoveries: Vec<Recovery>,
}

/// The time of a service in each class, in milliseconds. Together they are the period, or what is left of it from the first
/// record of the service on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Times {
    pub healthy: f64,
    /// It worked, but not as it should. Counts as available.
    pub degraded: f64,
    /// From the fault until it was healthy again.
    pub down: f64,
    /// It was stopped on purpose.
    pub stopped: f64,
    /// An operator had paused it.
    pub paused: f64,
    /// A window of its maintenance was open.
    pub maintenance: f64,
    /// A drill had it fail.
    #[serde(default)]
    pub drilled: f64,
    /// It started without having failed, or hostprobe could not see how it was.
    pub unknown: f64,
    /// hostprobe did not run.
    pub not_observed: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probes {
    pub made: i64,
    pub failed: i64,
}

/// The incidents that were open at some time in the period, without those of drills.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Incidents {
    pub total: usize,
    /// Their number by their latest verdict.
    pub by_verdict: BTreeMap<String, usize>,
    pub open: Vec<OpenIncident>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenIncident {
    pub id: String,
    pub verdict: String,
    /// The time of the fault: RFC 3339, UTC.
    pub since: String,
}

/// Restarts for incidents. Those that an operator asked for are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Restarts {
    pub done: i64,
    pub failed: i64,
    /// How often one was held on purpose.
    pub held: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recovery {
    /// The incident.
    pub id: String,
    pub verdict: String,
    /// The time of the fault: RFC 3339, UTC.
    pub since: String,
    pub took_ms: f64,
}

impl Report {
    /// The report of a period from what was recorded and the incidents.
    pub fn of(period: Period, recorded: &[Recorded], incidents: &[PastIncident]) -> Self {
        let mut services: BTreeMap<&str, (Option<&Recorded>, Vec<&PastIncident>)> = BTreeMap::new();
        for service in recorded {
            services.entry(&service.service).or_default().0 = Some(service);
        }
        for incident in incidents {
            services.entry(&incident.service).or_default().1.push(incident);
        }
        let services = services
            .into_iter()
            .map(|(name, (recorded, incidents))| ServiceReport::of(name, period, recorded, &incidents));
        Self {
            from: wall(period.from.saturating_mul(1_000_000)),
            to: wall(period.to.saturating_mul(1_000_000)),
            services: services.collect(),
            drills: Vec::new(),
        }
    }

    /// With these drills.
    pub fn with_drills(self, drills: Vec<DrillReport>) -> Self {
        Self { drills: drills.into_iter().map(PastDrill::from).collect(), ..self }
    }
}

impl ServiceReport {
    fn of(name: &str, period: Period, recorded: Option<&Recorded>, incidents: &[&PastIncident]) -> Self {
        let totals = recorded.map(|recorded| recorded.totals).unwrap_or_default();
        let incidents: Vec<&PastIncident> =
            incidents.iter().copied().filter(|incident| !incident.is_drill).collect();
        let detected = incidents.iter().filter_map(|incident| incident.detected);
        let mut recoveries: Vec<(i64, &PastIncident)> =
            incidents.iter().filter_map(|incident| Some((incident.recovered?, *incident))).collect();
        recoveries.sort_by_key(|(took, incident)| (-took, incident.since));
        Self {
            service: name.to_owned(),
            availability: availability(&totals),
            time_ms: Times::of(period, recorded),
            probes: Probes { made: totals.count(Count::Probes), failed: totals.count(Count::FailedProbes) },
            incidents: Incidents::of(&incidents),
            time_to_detect: Spread::of(detected.collect()),
            time_to_recover: Spread::of(recoveries.iter().map(|(took, _)| *took).collect()),
            restarts: Restarts {
                done: totals.count(Count::Restarts),
                failed: totals.count(Count::FailedRestarts),
                held: totals.count(Count::HeldRestarts),
            },
            slowest_recoveries: recoveries
                .iter()
                .take(SLOWEST)
                .map(|(took, it)| it.recovery(*took))
                .collect(),
        }
    }

    /// The time in which it worked, and that in which it was to work and was watched, in microseconds.
    pub fn worked(&self) -> (i64, i64) {
        let micros = |ms: f64| (ms * 1000.0).round() as i64;
        let works = micros(self.time_ms.healthy) + micros(self.time_ms.degraded);
        (works, works + micros(self.time_ms.down))
    }
}

fn availability(totals: &Totals) -> Option<f64> {
    let works = totals.time(Class::Healthy).saturating_add(totals.time(Class::Degraded));
    let all = works.saturating_add(totals.time(Class::Down));
    (all > 0).then(|| works as f64 / all as f64)
}

impl Times {
    fn of(period: Period, recorded: Option<&Recorded>) -> Self {
        let Some(Recorded { first, totals, .. }) = recorded else { return Self::default() };
        Self::of_whole(period.to.saturating_sub(period.from.max(*first)), totals)
    }

    /// The times in a span of so many seconds.
    fn of_whole(seconds: i64, totals: &Totals) -> Self {
        let whole = seconds.max(0).saturating_mul(1_000_000);
        let ms = |class: Class| millis(totals.time(class));
        Self {
            healthy: ms(Class::Healthy),
            degraded: ms(Class::Degraded),
            down: ms(Class::Down),
            stopped: ms(Class::Stopped),
            paused: ms(Class::Paused),
            maintenance: ms(Class::Maintenance),
            drilled: ms(Class::Drilled),
            unknown: ms(Class::Unknown),
            not_observed: millis(whole.saturating_sub(totals.watched()).max(0)),
        }
    }

    /// The time in which it was not to work.
    pub fn planned(&self) -> f64 {
        self.stopped + self.paused + self.maintenance + self.drilled
    }
}

impl Incidents {
    fn of(incidents: &[&PastIncident]) -> Self {
        let mut by_verdict = BTreeMap::new();
        for incident in incidents {
            *by_verdict.entry(incident.verdict.clone()).or_default() += 1;
        }
        let open = incidents.iter().filter(|incident| incident.open).map(|incident| OpenIncident {
            id: incident.id.clone(),
            verdict: incident.verdict.clone(),
            since: wall(incident.since),
        });
        Self { total: incidents.len(), by_verdict, open: open.collect() }
    }
}

impl From<DrillReport> for PastDrill {
    fn from(drill: DrillReport) -> Self {
        let DrillReport { id, service, fault, outcome, began, incident, .. } = drill;
        let DrillReport { detected_ms, acted_ms, recovered_ms, alerted_ms, .. } = drill;
        Self { id, service, fault, outcome, began, incident, detected_ms, acted_ms, recovered_ms, alerted_ms }
    }
}

impl PastIncident {
    fn recovery(&self, took: i64) -> Recovery {
        Recovery {
            id: self.id.clone(),
            verdict: self.verdict.clone(),
            since: wall(self.since),
            took_ms: millis(took),
        }
    }
}

/// A moment in microseconds since 1970: RFC 3339, UTC, to the millisecond.
fn wall(micros: i64) -> String {
    let moment = jiff::Timestamp::from_microsecond(micros.div_euclid(1000).saturating_mul(1000));
    format!("{:.3}", moment.unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests;
