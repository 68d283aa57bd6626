//! One run of the daemon, replayed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    Row, Scope,
    compare::side_by_side,
    ledger::{Ledger, TimedDecision},
};
use crate::{
    clock::Timestamp,
    config::Config,
    emit::{Name, Names, special},
    engine::Engine,
    fact::{Observation, ServiceId},
    store::recording::{
        line::{Entry, Line, MOST_SERVICES, Seen, Start},
        portable::{self, digest},
    },
};

/// One run of the daemon, and what the replay found.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// The run: `agent.ephemeral_id`.
    pub id: String,
    /// When its first recorded line was written: RFC 3339, UTC.
    pub from: String,
    /// When its last one was.
    pub to: String,
    /// The number of replayed observations.
    pub observations: u64,
    /// Those among them that are about a service, not about the host.
    #[serde(skip)]
    pub of_services: u64,
    /// Whether the configuration decides as the recorded one did; absent if the recording does not show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_configuration: Option<bool>,
    /// Each decision in the scope, then and now.
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

/// A run that is being replayed.
pub(super) struct Run<'a> {
    config: &'a Config,
    report: RunReport,
    /// The engine's start, as it was recorded.
    start: Option<Start>,
    engine: Option<Engine>,
    /// The services the run was about.
    known: BTreeSet<String>,
    /// The services that the engine has now, by name.
    ids: BTreeMap<String, ServiceId>,
    /// The reloads that changed the configuration of the run.
    reloaded: bool,
    /// A service that a reload adds gets this id.
    next_id: u32,
    recorded: Vec<TimedDecision>,
    ledger: Ledger,
    /// The numbers of the first line and of the last one.
    first: Option<u64>,
    last: u64,
    missing: u64,
    clipped: u64,
    unreadable: u64,
}

impl<'a> Run<'a> {
    pub(super) fn new(config: &'a Config, id: String) -> Self {
        let ledger = Ledger::new(Names::of(config), &id);
        let ids = config.services.iter().map(|service| (service.name.clone(), service.id)).collect();
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
            ids,
            reloaded: false,
            next_id: config.services.last().map_or(0, |service| service.id.0 + 1),
            recorded: Vec::new(),
            ledger,
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

    /// Takes in the run's next line.
    pub(super) fn take(&mut self, line: Line) {
        if self.report.from.is_empty() {
            self.report.from.clone_from(&line.timestamp);
        }
        self.report.to.clone_from(&line.timestamp);
        let now = Timestamp::from_nanos(line.at_ns);
        if let Entry::Start(start) = line.entry {
            // Each segment repeats it.
            self.known.extend(start.services.iter().cloned());
            self.report.same_configuration =
                Some(start.digest == digest(&self.config.services, self.config.restart_budget));
            self.start = Some(start);
            return;
        }
        match self.first {
            None => {
                self.first = Some(line.sequence);
                self.report.from.clone_from(&line.timestamp);
            }
            Some(_) => {
                let missing = line.sequence.saturating_sub(self.last.saturating_add(1));
                self.missing = self.missing.saturating_add(missing);
            }
        }
        self.last = line.sequence;
        if let Ok(wall) = line.timestamp.parse::<jiff::Timestamp>() {
            self.ledger.wall_ahead = wall.as_nanosecond() - i128::from(line.at_ns);
        }
        match line.entry {
            Entry::Start(_) => {}
            Entry::Tick {} => self.tick(now, true),
            Entry::Observation(seen) => self.observe(now, seen),
            Entry::Decision(decision) => {
                self.known.insert(decision.service.clone());
                self.recorded.push(TimedDecision { timestamp: line.timestamp, decision });
            }
        }
    }

    fn observe(&mut self, now: Timestamp, recorded: Seen) {
        self.clipped += u64::from(recorded.clipped);
        self.known.extend(recorded.services.iter().cloned());
        self.tick(now, false);
        let Ok(seen) = serde_json::from_value::<Observation>(recorded.seen) else {
            self.unreadable += 1;
            return;
        };
        if matches!(seen, Observation::Remembered(..)) {
            // The earlier run may have had services that this one does not have. Their incidents end.
            recorded
                .services
                .iter()
                .filter(|name| special(name).is_none())
                .for_each(|name| self.number(name));
        }
        if matches!(
            seen,
            Observation::Configured(..) | Observation::Removed(_) | Observation::RestartBudget(_)
        ) {
            self.reloaded = true;
            if self.report.same_configuration != Some(true) {
                // Another configuration decides instead of the recorded one, before the reload and after it.
                return;
            }
            recorded.services.iter().for_each(|name| self.number(name));
        }
        let find = |name: &str| self.ids.get(name).copied().or_else(|| special(name));
        let placed = portable::placed(seen, &recorded.services, find);
        // An observation about a service that this configuration does not have; the report names the service.
        let Ok(seen) = placed else { return };
        self.report.observations += 1;
        self.report.of_services += u64::from(seen.service().is_some());
        let removed = if let Observation::Removed(id) = &seen { Some(*id) } else { None };
        let engine = Self::engine(&mut self.engine, self.start.as_ref(), self.first, self.config, now);
        engine.observe(now, seen, &mut self.ledger);
        if removed.is_some() {
            self.ids.retain(|_, id| Some(*id) != removed);
        }
    }

    /// Gives a service that a reload adds an id.
    fn number(&mut self, name: &str) {
        if !self.ids.contains_key(name) {
            let id = ServiceId(self.next_id);
            self.next_id += 1;
            self.ids.insert(name.to_owned(), id);
            let name = Name { service: name.to_owned(), unit: None };
            self.ledger.names = self.ledger.names.with(id, name);
        }
    }

    /// Lets the engine do what is due by `now`. With the configuration of the run, that happens exactly when it
    /// happened then; with another, as soon as it is due.
    fn tick(&mut self, now: Timestamp, recorded: bool) {
        let engine = Self::engine(&mut self.engine, self.start.as_ref(), self.first, self.config, now);
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
        start: Option<&Start>,
        first: Option<u64>,
        config: &Config,
        now: Timestamp,
    ) -> &'e mut Engine {
        engine.get_or_insert_with(|| {
            let observe = start.is_some_and(|start| start.observe);
            let begun = start.filter(|_| first == Some(1));
            let at = begun.map_or(now, |start| Timestamp::from_nanos(start.start_ns));
            Engine::new(&config.services, observe, at).with_restart_budget(config.restart_budget)
        })
    }

    /// Lays then and now side by side; None if the scope has nothing of this run.
    pub(super) fn finish(mut self, scope: &Scope) -> Option<RunReport> {
        if !scope.narrow([&mut self.recorded, &mut self.ledger.decisions], &self.report.to) {
            return None;
        }
        let configured: BTreeSet<String> =
            self.config.services.iter().map(|service| service.name.clone()).collect();
        let reloaded = |name: &&String| !self.ids.contains_key(*name);
        self.report.only_recorded = self.known.difference(&configured).filter(reloaded).cloned().collect();
        // A start that names as many services as fit may leave some out.
        if self.start.as_ref().is_some_and(|start| start.services.len() < MOST_SERVICES) {
            self.report.only_configured = configured.difference(&self.known).cloned().collect();
        }
        let mut services: BTreeMap<String, [Vec<TimedDecision>; 2]> = BTreeMap::new();
        for (side, decisions) in
            [std::mem::take(&mut self.recorded), self.ledger.decisions.split_off(0)].into_iter().enumerate()
        {
            for decision in decisions {
                services.entry(decision.decision.service.clone()).or_default()[side].push(decision);
            }
        }
        let mut rows: Vec<(String, Row)> = Vec::new();
        for [recorded, replayed] in services.values() {
            // Decisions of one moment are stamped a few microseconds apart: a service's stay in their order.
            let mut latest = String::new();
            for row in side_by_side(recorded, replayed) {
                latest = latest.max(row.timestamp.clone());
                rows.push((latest.clone(), row));
            }
        }
        rows.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.report.rows = rows.into_iter().map(|(_, row)| row).collect();
        self.report.notes = self.notes();
        Some(self.report)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(first) = self.first.filter(|&first| first > 1) {
            notes.push(format!(
                "the recording begins in the middle of this run, at its line {first}: the segments before it are gone, \
                 and the replay does not know what happened until then"
            ));
        }
        if self.start.is_none() {
            notes.push("the recording lacks the start of this run; replay whole segments".to_owned());
        }
        if self.report.same_configuration == Some(false) {
            notes.push("this configuration decides otherwise than the one of the run".to_owned());
        }
        if self.reloaded && self.report.same_configuration != Some(true) {
            notes.push(
                "the configuration of this run was changed by a reload; the replay decides by the given one throughout"
                    .to_owned(),
            );
        }
        if self.missing > 0 {
            notes.push(format!("lines of this run that are missing in the recording: {}", self.missing));
        }
        if self.clipped > 0 {
            notes.push(format!(
                "observations that were recorded in part, because a line has an end: {}",
                self.clipped
            ));
        }
        if self.unreadable > 0 {
            notes.push(format!(
                "observations that this version of hostprobe cannot read, because another one recorded them: {}",
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
