//! One incident with the events that concern it.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    entry::{Entry, Further, MESSAGE, What, entry},
    surroundings::{self, Surroundings},
};
use crate::emit::{
    action::Action,
    wire::{Incident, Record, Severity, Timing, Verdict},
};

/// The most events of an incident that are kept as evidence, and the most others.
pub(super) const EVENTS: usize = 64;

/// One incident in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Listed {
    pub id: String,
    pub service: String,
    pub open: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// When the fault happened: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The time of its end: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    pub attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Timing>,
    /// The reason of the latest hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
}

/// One incident, from its evidence to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    pub service: String,
    pub open: bool,
    /// The time of its end: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    pub incident: Incident,
    /// What happened from a minute before the fault until the end, to it, to other services and to the host, in order.
    pub timeline: Vec<Entry>,
    /// Events in the middle that were not kept.
    pub left_out: u64,
    /// Events of other services and of the host that were not kept.
    #[serde(default)]
    pub left_out_around: u64,
    /// Ids of evidence that the history does not have.
    pub missing: Vec<String>,
}

/// An id that does not name exactly one incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotOne {
    None,
    Several(Vec<String>),
}

impl NotOne {
    /// It in a sentence.
    pub fn in_words(&self, which: &str) -> String {
        match self {
            Self::None => format!("there is no incident {which:?}; `hostprobe incidents` lists them"),
            Self::Several(ids) => format!("{which:?} can mean any of {}", ids.join(", ")),
        }
    }
}

/// An incident as the history and the state file keep it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    pub(crate) service: String,
    pub(crate) incident: Incident,
    pub(crate) until: Option<String>,
    hold: Option<String>,
    /// How often a restart was held.
    pub(crate) holds: u32,
    evidence: Vec<Entry>,
    steps: VecDeque<Entry>,
    left_out: u64,
    #[serde(default)]
    surroundings: Surroundings,
}

impl Timeline {
    /// The beginning of an incident, with this event and what happened before.
    pub(super) fn new(incident: Incident, record: &Record, surroundings: Surroundings) -> Self {
        Self {
            service: record.service.as_ref().map(|service| service.name.clone()).unwrap_or_default(),
            incident,
            until: None,
            hold: None,
            holds: 0,
            evidence: Vec::new(),
            steps: VecDeque::new(),
            left_out: 0,
            surroundings,
        }
    }

    /// Takes in what explains its fault, if it is over and no event about it had that. True if it did.
    pub(super) fn explain(&mut self, context: Incident) -> bool {
        let Incident { logs, changes, changed_at, stacks, crash, culprit, actor, .. } = &mut self.incident;
        if self.until.is_none() {
            return false;
        }
        let is_first = changes.is_none();
        let added = [
            add(logs, context.logs),
            add(changes, context.changes),
            is_first && add(changed_at, context.changed_at),
            add(stacks, context.stacks),
            // Its names and the core dump come later than the rest.
            context.crash.is_some() && *crash != context.crash,
            add(culprit, context.culprit),
            add(actor, context.actor),
        ];
        *crash = context.crash.or(crash.take());
        added.contains(&true)
    }

    /// Takes in an event that is not of this incident.
    pub(super) fn surround(&mut self, entry: &Entry) {
        if entry.service.as_ref() == Some(&self.service) && surroundings::is_step(entry.action) {
            return;
        }
        self.surroundings.add(entry);
    }

    pub fn is_open(&self) -> bool {
        self.until.is_none()
    }

    /// What became of it is not known: an earlier run of the daemon has left it open, and no memory of it.
    pub fn end(&mut self, at: jiff::Timestamp) {
        self.until = Some(format!("{at:.9}"));
        self.hold = None;
    }

    /// Its published id.
    pub fn id(&self) -> &str {
        &self.incident.id
    }

    /// Why its service is not restarted.
    pub(super) fn hold(&self) -> Option<&str> {
        self.hold.as_deref()
    }

    /// Adds an event that the verdict was reached from, once.
    pub(super) fn add_evidence<'r>(&mut self, id: &str, find: impl FnOnce() -> Option<&'r Entry>) {
        if self.evidence.len() < EVENTS && !self.evidence.iter().any(|known| known.id == id) {
            self.evidence.extend(find().map(|entry| Entry { evidence: true, ..entry.clone() }));
        }
    }

    /// Adds an event about a restart or an alert.
    pub(super) fn act(&mut self, record: Record) {
        if record.event.action == Action::RestartHold {
            self.hold.clone_from(&record.event.reason);
            self.holds = self.holds.saturating_add(1);
        } else if record.event.action == Action::RestartRequest {
            self.hold = None;
        }
        self.step(entry(&record, MESSAGE));
    }

    /// The incident as an event about it has it.
    pub(super) fn update(&mut self, incident: Incident, record: Record) {
        self.incident = incident;
        if record.event.action == Action::IncidentResolve {
            self.until = Some(record.timestamp.clone());
            self.hold = None;
        }
        self.step(entry(&record, MESSAGE));
    }

    pub(super) fn step(&mut self, entry: Entry) {
        if self.steps.len() == EVENTS {
            // The beginning and the end explain most.
            self.steps.remove(EVENTS / 2);
            self.left_out += 1;
        }
        self.steps.push_back(entry);
    }

    /// The explanation of the only one of these.
    pub fn only<'t>(found: impl Iterator<Item = &'t Self>) -> Result<Explanation, NotOne> {
        let found: Vec<&Self> = found.collect();
        match found.as_slice() {
            [] => Err(NotOne::None),
            [timeline] => Ok(timeline.explained()),
            several => {
                Err(NotOne::Several(several.iter().map(|timeline| timeline.incident.id.clone()).collect()))
            }
        }
    }

    pub fn listed(&self) -> Listed {
        let incident = &self.incident;
        Listed {
            id: incident.id.clone(),
            service: self.service.clone(),
            open: self.is_open(),
            verdict: incident.verdict,
            severity: incident.severity,
            summary: incident.summary.clone(),
            since: incident.since.clone(),
            until: self.until.clone(),
            attempts: incident.attempts.unwrap_or(0),
            timing: incident.timing,
            hold: self.hold.clone(),
        }
    }

    pub fn explained(&self) -> Explanation {
        let at = |text: &str| text.parse::<jiff::Timestamp>().ok();
        let since = self.incident.since.as_deref().and_then(at);
        let mut timeline: Vec<Entry> = self.evidence.clone();
        for step in self.steps.iter().chain(self.surroundings.events()) {
            if !timeline.iter().any(|known| known.id == step.id) {
                timeline.push(step.clone());
            }
        }
        for entry in &mut timeline {
            if let (Some(since), Some(at)) = (since, at(&entry.timestamp)) {
                entry.after_ms = (at.duration_since(since).as_micros() as f64) / 1000.0;
            }
        }
        // Events of one moment are stamped a few microseconds apart; their numbers are in the order of what happened. Each
        // run of the daemon counts from 1.
        let mut by_time: Vec<(&str, String)> =
            timeline.iter().map(|entry| (entry.timestamp.as_str(), run(&entry.id).to_owned())).collect();
        by_time.sort();
        let mut runs: Vec<String> = Vec::new();
        for (_, run) in by_time {
            if !runs.contains(&run) {
                runs.push(run);
            }
        }
        let place = |id: &str| (runs.iter().position(|known| known == run(id)), sequence(id));
        timeline.sort_by_key(|entry| place(&entry.id));
        let at_hand = |id: &&String| !self.evidence.iter().any(|entry| entry.id == **id);
        let mut explanation = Explanation {
            service: self.service.clone(),
            open: self.is_open(),
            until: self.until.clone(),
            incident: self.incident.clone(),
            timeline,
            left_out: self.left_out,
            left_out_around: self.surroundings.left_out,
            missing: self.incident.evidence.iter().flatten().filter(at_hand).cloned().collect(),
        };
        explanation.add_changes();
        explanation
    }
}

impl Explanation {
    /// The first and the last moment that it is about, in microseconds since 1970; None if it has no times.
    pub fn window(&self) -> Option<(i64, i64)> {
        let since = surroundings::micros(self.incident.since.as_deref()?)?;
        let until = self.until.as_deref().and_then(surroundings::micros);
        let until = until.unwrap_or_else(|| jiff::Timestamp::now().as_microsecond());
        Some((since - surroundings::BEFORE_US, until))
    }

    /// Adds something that is no event, at its place.
    pub fn add(&mut self, what: Further, at_us: i64, message: String) {
        let Ok(at) = jiff::Timestamp::from_microsecond(at_us) else { return };
        let since = self.incident.since.as_deref().and_then(surroundings::micros).unwrap_or(at_us);
        let later = |entry: &Entry| surroundings::micros(&entry.timestamp).is_some_and(|time| time > at_us);
        let place = self.timeline.iter().position(later).unwrap_or(self.timeline.len());
        let entry = Entry {
            id: String::new(),
            timestamp: format!("{at:.9}"),
            after_ms: (at_us - since) as f64 / 1000.0,
            action: What::Further(what),
            service: None,
            evidence: false,
            message,
        };
        self.timeline.insert(place, entry);
    }

    /// Adds the changes within the window.
    fn add_changes(&mut self) {
        let Some((from, _)) = self.window() else { return };
        let words = self.incident.changes.clone().unwrap_or_default();
        let times = self.incident.changed_at.clone().unwrap_or_default();
        for (words, time) in words.into_iter().zip(times) {
            if let Some(at) = surroundings::micros(&time).filter(|at| *at >= from) {
                self.add(Further::Change, at, words);
            }
        }
    }
}

/// Adds what is not known yet. True if it did.
fn add<T>(known: &mut Option<T>, found: Option<T>) -> bool {
    let is_new = known.is_none() && found.is_some();
    if is_new {
        *known = found;
    }
    is_new
}

/// An event's place in its stream, which its id ends with.
pub(super) fn sequence(id: &str) -> Option<u64> {
    id.rsplit('-').next()?.parse().ok()
}

/// The run of the daemon that an event is of, which its id begins with.
fn run(id: &str) -> &str {
    id.rsplit_once('-').map_or("", |(run, _)| run)
}
