//! One run of the daemon, replayed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    Row,
    compare::side_by_side,
    decision::{Decision, Ledger, decided},
    portable::{self, digest},
};
use crate::{
    clock::Timestamp,
    config::Config,
    emit::{self, wire},
    engine::Engine,
    fact::{Observation, ServiceId},
};

/// What became of one run.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// The run: `agent.ephemeral_id`.
    pub id: String,
    /// When its first event happened.
    pub from: String,
    /// When its last one did.
    pub to: String,
    /// Observations that were replayed.
    pub observations: u64,
    /// Those among them that are about a service, not about the host.
    #[serde(skip)]
    pub of_services: u64,
    /// Whether the configuration decides as the recorded one did; absent if the recording does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_configuration: Option<bool>,
    /// Each decision, then and now.
    pub rows: Vec<Row>,
    /// Services that only the recording knows.
    pub only_recorded: BTreeSet<String>,
    /// Services that only the configuration knows.
    pub only_configured: BTreeSet<String>,
    /// What a person should know before trusting the comparison: one sentence each.
    pub notes: Vec<String>,
}

impl RunReport {
    /// Whether everything was decided as it was then.
    pub fn is_same(&self) -> bool {
        self.rows.iter().all(|row| row.same)
    }
}

/// One run in the course of being replayed.
pub(super) struct Run<'a> {
    config: &'a Config,
    report: RunReport,
    /// The engine's start, as the run tells it.
    start: Option<wire::Engine>,
    engine: Option<Engine>,
    /// The services the run was about.
    known: BTreeSet<String>,
    recorded: Vec<Decision>,
    ledger: Ledger,
    first: Option<u64>,
    last: u64,
    missing: u64,
    clipped: u64,
    unreadable: u64,
}

impl<'a> Run<'a> {
    pub(super) fn new(config: &'a Config, id: String) -> Self {
        let names = config.services.iter().map(|service| service.name.clone()).collect();
        Self {
            config,
            report: RunReport {
                id,
                from: String::new(),
                to: String::new(),
                observations: 0,
                of_services: 0,
                same_configuration: None,
                rows: Vec::new(),
                only_recorded: BTreeSet::new(),
                only_configured: BTreeSet::new(),
                notes: Vec::new(),
            },
            start: None,
            engine: None,
            known: BTreeSet::new(),
            recorded: Vec::new(),
            ledger: Ledger::new(names),
            first: None,
            last: 0,
            missing: 0,
            clipped: 0,
            unreadable: 0,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.report.id
    }

    /// Takes in the run's next event.
    pub(super) fn take(&mut self, record: wire::Record) {
        if self.first.is_none() {
            self.first = Some(record.event.sequence);
            self.report.from.clone_from(&record.timestamp);
        } else {
            let missing = record.event.sequence.saturating_sub(self.last.saturating_add(1));
            self.missing = self.missing.saturating_add(missing);
        }
        self.last = record.event.sequence;
        self.report.to.clone_from(&record.timestamp);
        self.known.extend(record.service.iter().map(|service| service.name.clone()));
        if let Some(start) = &record.engine {
            self.known.extend(start.services.iter().cloned());
            self.report.same_configuration = Some(start.digest == digest(&self.config.services));
            self.start = Some(start.clone());
        }
        if let Some(what) = decided(&record)
            && let Some(service) = record.service
        {
            self.recorded.push(Decision { timestamp: record.timestamp, service: service.name, what });
        } else if let Some(observation) = record.observation {
            self.observe(observation, &record.timestamp);
        }
    }

    fn observe(&mut self, recorded: wire::Observation, timestamp: &str) {
        let now = Timestamp::from_nanos(recorded.at_ns);
        if let Ok(wall) = timestamp.parse::<jiff::Timestamp>() {
            self.ledger.wall_ahead = wall.as_nanosecond() - i128::from(recorded.at_ns);
        }
        self.clipped += u64::from(recorded.clipped);
        self.known.extend(recorded.services.iter().cloned());
        self.tick(now, recorded.seen.is_none());
        let Some(seen) = recorded.seen else { return };
        let Ok(seen) = serde_json::from_value::<Observation>(seen) else {
            self.unreadable += 1;
            return;
        };
        let names = &self.ledger.names;
        let find = |name: &str| (0..).map(ServiceId).zip(names).find(|(_, known)| *known == name);
        let placed = portable::placed(seen, &recorded.services, |name| Some(find(name)?.0));
        // One about a service that this configuration does not have; the report names it.
        let Ok(seen) = placed else { return };
        self.report.observations += 1;
        self.report.of_services += u64::from(seen.service().is_some());
        let engine = Self::engine(&mut self.engine, self.start.as_ref(), self.config, now);
        engine.observe(now, seen, &mut self.ledger);
    }

    /// Lets the engine do what is due by `now`. With the configuration of the run, that happens exactly when it
    /// did then; with another, as soon as it is due.
    fn tick(&mut self, now: Timestamp, recorded: bool) {
        let engine = Self::engine(&mut self.engine, self.start.as_ref(), self.config, now);
        if self.report.same_configuration == Some(true) {
            if recorded {
                engine.tick(now, &mut self.ledger);
            }
            return;
        }
        while let Some(due) = engine.deadline().filter(|&due| due <= now) {
            engine.tick(due, &mut self.ledger);
            if engine.deadline() == Some(due) {
                break;
            }
        }
    }

    fn engine<'e>(
        engine: &'e mut Option<Engine>,
        start: Option<&wire::Engine>,
        config: &Config,
        now: Timestamp,
    ) -> &'e mut Engine {
        engine.get_or_insert_with(|| {
            let observe = start.is_some_and(|start| start.observe);
            let at = start.map_or(now, |start| Timestamp::from_nanos(start.start_ns));
            Engine::new(&config.services, observe, at)
        })
    }

    /// Lays then and now side by side.
    pub(super) fn finish(mut self) -> RunReport {
        let configured: BTreeSet<String> = self.ledger.names.iter().cloned().collect();
        self.report.only_recorded = self.known.difference(&configured).cloned().collect();
        // A start that names as many services as fit may leave some out.
        if self.start.as_ref().is_some_and(|start| start.services.len() < emit::MAX_SERVICES) {
            self.report.only_configured = configured.difference(&self.known).cloned().collect();
        }
        let mut services: BTreeMap<String, [Vec<Decision>; 2]> = BTreeMap::new();
        for (side, decisions) in
            [std::mem::take(&mut self.recorded), self.ledger.decisions.split_off(0)].into_iter().enumerate()
        {
            for decision in decisions {
                services.entry(decision.service.clone()).or_default()[side].push(decision);
            }
        }
        let mut rows: Vec<(String, Row)> = Vec::new();
        for [recorded, replayed] in services.values() {
            // Events of one moment are stamped a few microseconds apart: a service's decisions stay in their order.
            let mut latest = String::new();
            for row in side_by_side(recorded, replayed) {
                latest = latest.max(row.timestamp.clone());
                rows.push((latest.clone(), row));
            }
        }
        rows.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.report.rows = rows.into_iter().map(|(_, row)| row).collect();
        self.report.notes = self.notes();
        self.report
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let (None, Some(first)) = (&self.start, self.first) {
            notes.push(format!(
                "the recording begins in the middle of this run, at event {first}: what happened before is not known to \
                 the replay; put the rotated file before it in front"
            ));
        }
        if self.report.same_configuration == Some(false) {
            notes.push("the configuration decides otherwise than the one of this run".to_owned());
        }
        if self.missing > 0 {
            notes.push(format!("events of this run that are missing in the recording: {}", self.missing));
        }
        if self.clipped > 0 {
            notes
                .push(format!("observations that were recorded in part, for want of room: {}", self.clipped));
        }
        if self.unreadable > 0 {
            notes.push(format!(
                "observations that could not be read, since another version of hostprobe recorded them: {}",
                self.unreadable
            ));
        }
        if self.report.observations == 0 {
            notes.push("no observations of this run were replayed".to_owned());
        }
        if self.report.rows.iter().any(|row| !row.same) {
            notes.push(
                "after the first difference this is a what-if: what was observed then, such as the outcome of a \
                 restart, is still fed to the engine, whether or not it would have happened"
                    .to_owned(),
            );
        }
        notes
    }
}
