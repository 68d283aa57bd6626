//! Sums up what the engine publishes of services, minute by minute of the wall clock.
//!
//! Spans of time are measured by the kernel's clock, which never steps. The wall clock only says which minute a span is of.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Class, Count, MINUTE, Totals};
use crate::{
    clock::Timestamp,
    engine::{
        ServiceView,
        rules::{self, Impact},
    },
    fact::{Action, Fact, Phase, ProbeOutcome, ProbeReport, Restart, ServiceId, ServiceState},
};

/// The daemon looks at its services every second. After a longer silence it did not run: it was stopped, or the host slept.
const GAP: Duration = Duration::from_secs(30);

/// A smaller difference between the clocks is the time between two readings, or a clock that is slewed.
const STEP: i128 = 50_000_000;

/// The most time before the discovery of a fault that counts for the fault.
const BEFORE_DISCOVERY: u64 = 3_600_000_000_000;

/// What services do, until it is taken out.
#[derive(Debug)]
pub struct Collector {
    services: BTreeMap<ServiceId, Watched>,
    /// Changes of the sums, by service and minute since 1970.
    minutes: BTreeMap<(ServiceId, i64), Totals>,
    /// How far the wall clock is ahead of the time since boot, in nanoseconds.
    wall_ahead: i128,
    /// The latest moment at which the daemon ran.
    seen: Timestamp,
    /// The minute of the latest tick.
    minute: i64,
}

/// A service, and how far its time is summed up.
#[derive(Debug)]
struct Watched {
    state: ServiceState,
    has_incident: bool,
    /// A drill caused it.
    is_drill: bool,
    is_paused: bool,
    in_maintenance: bool,
    /// hostprobe lacks what it takes to see how it is.
    is_unseen: bool,
    class: Class,
    /// Since when it has been of this class.
    since: Timestamp,
    /// Its time is summed up to this moment.
    counted: Timestamp,
    /// When its latest fault happened, and when that became known.
    fault: Option<(Timestamp, Timestamp)>,
}

impl Watched {
    fn new(now: Timestamp) -> Self {
        Self {
            state: ServiceState::Starting,
            has_incident: false,
            is_drill: false,
            is_paused: false,
            in_maintenance: false,
            is_unseen: false,
            class: Class::Unknown,
            since: now,
            counted: now,
            fault: None,
        }
    }

    fn class(&self) -> Class {
        match self.state {
            ServiceState::Stopped => Class::Stopped,
            ServiceState::Paused => Class::Paused,
            _ if self.is_paused => Class::Paused,
            _ if self.in_maintenance => Class::Maintenance,
            _ if self.is_unseen => Class::Unknown,
            ServiceState::Healthy => Class::Healthy,
            ServiceState::Degraded => Class::Degraded,
            ServiceState::Starting if !self.has_incident => Class::Unknown,
            ServiceState::Unhealthy | ServiceState::Down | ServiceState::Starting if self.is_drill => {
                Class::Drilled
            }
            ServiceState::Unhealthy | ServiceState::Down | ServiceState::Starting => Class::Down,
        }
    }

    /// Since when it is of its new class, which became known at `now`: for a fault, since it happened.
    fn changed(&self, class: Class, now: Timestamp) -> Timestamp {
        let fault = self.fault.filter(|(_, known)| *known == now);
        let Some((happened, _)) =
            fault.filter(|_| matches!(class, Class::Down | Class::Drilled | Class::Degraded))
        else {
            return now;
        };
        if !matches!(self.class, Class::Healthy | Class::Degraded | Class::Unknown) {
            return now;
        }
        let earliest = Timestamp::from_nanos(now.as_nanos().saturating_sub(BEFORE_DISCOVERY));
        happened.max(self.since).max(earliest).min(now)
    }
}

impl Collector {
    /// A collector that knows no service, with the clocks of this moment.
    pub fn new(now: Timestamp, wall_ahead: i128) -> Self {
        let mut collector =
            Self { services: BTreeMap::new(), minutes: BTreeMap::new(), wall_ahead, seen: now, minute: 0 };
        collector.minute = collector.minute_of(now);
        collector
    }

    /// Takes in a fact that was published at `at`. A service that no view has shown yet, or that a reload removed, is not watched.
    pub fn on_fact(&mut self, fact: &Fact, at: Timestamp) {
        if let Fact::ServiceState(id, state, ..) = fact {
            self.advance(at);
            if let Some(service) = self.services.get_mut(id) {
                service.state = *state;
                self.classify(*id, at);
            }
        } else if let Fact::Incident(phase, incident) = fact {
            self.advance(at);
            if let Some(service) = self.services.get_mut(&incident.service) {
                service.has_incident = *phase != Phase::Resolve;
                service.is_drill = service.has_incident && incident.drill.is_some();
                if service.fault.is_none_or(|(happened, _)| happened != incident.since) {
                    service.fault = Some((incident.since, at));
                }
                self.classify(incident.service, at);
            }
        } else if let Fact::Restart(Restart { service, incident: Some(_), action, .. }) = fact {
            let count = match action {
                Action::Request => return,
                Action::Done => Count::Restarts,
                Action::Fail(_) => Count::FailedRestarts,
                Action::Hold(_) => Count::HeldRestarts,
            };
            self.totals(*service, self.minute_of(at)).add_count(count);
        }
    }

    /// Counts a probe. One that failed before it reached for the service says nothing of it.
    pub fn on_probe(&mut self, report: &ProbeReport) {
        let failed = if let ProbeOutcome::Failed(failure, _) = &report.outcome {
            if rules::of_failure(*failure).impact == Impact::Unknown {
                return;
            }
            true
        } else {
            false
        };
        let totals = self.totals(report.service, self.minute_of(report.at));
        totals.add_count(Count::Probes);
        if failed {
            totals.add_count(Count::FailedProbes);
        }
    }

    /// Takes in how the engine sees a service at `now`. It is watched from the first time on.
    pub fn on_view(&mut self, view: &ServiceView, now: Timestamp) {
        self.advance(now);
        let service = self.services.entry(view.service).or_insert_with(|| Watched::new(now));
        service.state = view.state;
        service.has_incident = view.incident.is_some();
        service.is_drill = view.incident.as_ref().is_some_and(|incident| incident.drill.is_some());
        service.is_paused = view.orders.pause.is_some();
        service.in_maintenance = view.maintenance.is_some();
        service.is_unseen = view.stale_since.is_some();
        self.classify(view.service, now);
    }

    /// Forgets services that a reload removed at `now`.
    pub fn retain(&mut self, kept: &BTreeSet<ServiceId>, now: Timestamp) {
        self.advance(now);
        self.count_up_to(now);
        self.services.retain(|id, _| kept.contains(id));
    }

    /// The daemon runs at `now`, and its wall clock is so far ahead of the time since boot. True if another minute has begun.
    pub fn tick(&mut self, now: Timestamp, wall_ahead: i128) -> bool {
        self.advance(now);
        if (wall_ahead - self.wall_ahead).abs() > STEP {
            self.count_up_to(now);
            self.wall_ahead = wall_ahead;
        }
        let minute = self.minute_of(now);
        std::mem::replace(&mut self.minute, minute) != minute
    }

    /// Takes out the changes up to `now`: by service, and the beginning of the minute in seconds since 1970.
    pub fn take(&mut self, now: Timestamp) -> impl Iterator<Item = (ServiceId, i64, Totals)> + use<> {
        self.advance(now);
        self.count_up_to(now);
        let minutes = std::mem::take(&mut self.minutes);
        minutes.into_iter().map(|((id, minute), totals)| (id, minute * MINUTE, totals))
    }

    /// The daemon runs at `now`. What lies between its latest moment and this one does not count if that is long.
    fn advance(&mut self, now: Timestamp) {
        if now.since(self.seen) > GAP {
            self.count_up_to(self.seen);
            for service in self.services.values_mut() {
                (service.since, service.counted) = (now, now);
            }
        }
        self.seen = self.seen.max(now);
    }

    /// Gives a service the class of its state from `now` on, or from its fault on.
    fn classify(&mut self, id: ServiceId, now: Timestamp) {
        let Some(service) = self.services.get_mut(&id) else { return };
        let (before, class) = (service.class, service.class());
        if before == class {
            return;
        }
        let (counted, changed) = (service.counted.max(now), service.changed(class, now));
        let from = service.counted;
        (service.class, service.since, service.counted) = (class, changed, counted);
        self.add(id, before, from, now, 1);
        self.add(id, before, changed, now, -1);
        self.add(id, class, changed, now, 1);
    }

    fn count_up_to(&mut self, now: Timestamp) {
        let mut spans = Vec::with_capacity(self.services.len());
        for (id, service) in &mut self.services {
            spans.push((*id, service.class, service.counted));
            service.counted = service.counted.max(now);
        }
        for (id, class, from) in spans {
            self.add(id, class, from, now, 1);
        }
    }

    /// Adds the time from one moment to another, or takes it away.
    fn add(&mut self, id: ServiceId, class: Class, from: Timestamp, to: Timestamp, sign: i64) {
        const MICROS: i64 = MINUTE * 1_000_000;
        let (mut at, end) = (self.wall_micros(from), self.wall_micros(to));
        while at < end {
            let minute = at.div_euclid(MICROS);
            let next = end.min((minute + 1) * MICROS);
            self.totals(id, minute).add_time(class, sign * (next - at));
            at = next;
        }
    }

    fn totals(&mut self, id: ServiceId, minute: i64) -> &mut Totals {
        self.minutes.entry((id, minute)).or_default()
    }

    fn minute_of(&self, at: Timestamp) -> i64 {
        self.wall_micros(at).div_euclid(MINUTE * 1_000_000)
    }

    /// A moment in microseconds since 1970.
    fn wall_micros(&self, at: Timestamp) -> i64 {
        let nanos = i128::from(at.as_nanos()) + self.wall_ahead;
        i64::try_from(nanos.div_euclid(1000)).unwrap_or_default()
    }
}
