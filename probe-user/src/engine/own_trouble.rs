//! The daemon's own trouble: it lacks the descriptors, memory, threads or ports that a probe or a restart takes.
//!
//! That says nothing of a service. So it is one incident of hostprobe itself, however many services it affects. They
//! keep the state that they were last known to have, marked as stale, and neither their failures nor their budgets count
//! it. Which evidence is of this kind is in the tables: [`rules::of_failure`] for probes, and the supervisor's errors for
//! restarts.

use std::{collections::BTreeMap, time::Duration};

use super::{
    effect::Effects,
    own_incident::OwnIncident,
    rules::{self, Impact},
};
use crate::{
    clock::Timestamp,
    fact::{EventId, Incident, ProbeOutcome, ProbeReport, ServiceId, Verdict},
};

/// The trouble is over after this long without any; while it lasts, its extent is published as often.
const INTERVAL: Duration = Duration::from_secs(10);

/// What was affected and has not been heard of again for this long is no longer tried.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// The most events that serve as evidence.
const EVIDENCE_MAX: usize = 16;

/// A probe by its position, or a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attempt {
    Probe(usize),
    Restart,
}

#[derive(Debug, Default)]
pub struct OwnTrouble {
    /// What failed at its latest attempt for lack of something here, with the first and the latest time.
    affected: BTreeMap<(ServiceId, Attempt), (Timestamp, Timestamp)>,
    detail: String,
    open: OwnIncident,
    /// How many services the latest event of the incident names.
    published: usize,
    due: Option<Timestamp>,
}

/// The error of a probe whose result says nothing of its service.
pub fn unasked(report: &ProbeReport) -> Option<&str> {
    match &report.outcome {
        ProbeOutcome::Failed(failure, detail) => {
            (rules::of_failure(*failure).impact == Impact::Unknown).then_some(detail)
        }
        ProbeOutcome::Ok | ProbeOutcome::Starting(_) => None,
    }
}

impl OwnTrouble {
    /// Whether its incident is open.
    pub fn is_open(&self) -> bool {
        self.open.is_open()
    }

    /// Whether this attempt failed already at its last time.
    pub fn is_known(&self, attempt: (ServiceId, Attempt)) -> bool {
        self.affected.contains_key(&attempt)
    }

    /// An attempt failed for lack of something here.
    pub fn note(
        &mut self,
        attempt: (ServiceId, Attempt),
        detail: &str,
        event: Option<EventId>,
        now: Timestamp,
        incidents: &mut u64,
        effects: &mut impl Effects,
    ) {
        self.affected.entry(attempt).or_insert((now, now)).1 = now;
        detail.clone_into(&mut self.detail);
        if let Some(open) = self.open.get_mut() {
            if open.evidence.len() < EVIDENCE_MAX {
                open.evidence.extend(event);
            }
            return;
        }
        self.published = self.services();
        let incident = OwnIncident::next(Verdict::AgentImpaired, self.summary(), now, incidents);
        let incident = Incident { evidence: event.into_iter().collect(), ..incident };
        self.open.open(incident, now, effects);
        self.due = Some(now.plus(INTERVAL));
    }

    /// An attempt did what it was meant to do, whatever its outcome.
    pub fn note_success(&mut self, attempt: (ServiceId, Attempt), now: Timestamp) {
        if self.affected.remove(&attempt).is_some() && self.affected.is_empty() {
            self.due = Some(now.plus(INTERVAL));
        }
    }

    /// A service is not watched any more.
    pub fn remove(&mut self, service: ServiceId, now: Timestamp) {
        let before = self.affected.len();
        self.affected.retain(|(affected, _), _| *affected != service);
        if before > 0 && self.affected.is_empty() {
            self.due = Some(now.plus(INTERVAL));
        }
    }

    pub fn incident(&mut self) -> &mut OwnIncident {
        &mut self.open
    }

    /// Since when a service's state is only the last known one.
    pub fn stale_since(&self, service: ServiceId) -> Option<Timestamp> {
        let of_service = (service, Attempt::Probe(0))..=(service, Attempt::Restart);
        self.affected.range(of_service).map(|(_, (first, _))| *first).min()
    }

    pub fn deadline(&self) -> Option<Timestamp> {
        self.due
    }

    /// Publishes how far it reaches, or that it is over.
    pub fn tick(&mut self, now: Timestamp, effects: &mut impl Effects) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        self.affected.retain(|_, (_, latest)| now.since(*latest) < FORGOTTEN);
        let services = self.services();
        let summary = self.summary();
        let Some(open) = self.open.get_mut() else { return };
        if services > 0 {
            if services != self.published {
                self.published = services;
                open.summary = summary;
                self.open.update(now, effects);
            }
            self.due = Some(now.plus(INTERVAL));
            return;
        }
        self.open.resolve(now, effects);
    }

    fn services(&self) -> usize {
        let mut services: Vec<ServiceId> = self.affected.keys().map(|(service, _)| *service).collect();
        services.dedup();
        services.len()
    }

    fn summary(&self) -> String {
        let count = self.services();
        let services = if count == 1 { "one service".to_owned() } else { format!("{count} services") };
        format!(
            "hostprobe itself lacks what it takes to watch {services}, which keep their last known state: {}",
            self.detail
        )
    }
}
