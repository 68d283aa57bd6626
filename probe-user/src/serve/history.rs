//! The latest incidents with their timelines, for `incidents` and `explain`.
//!
//! It is built from the stream's own events, so a recorded file gives the same answers as a running daemon.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{
    emit::{
        action::Action,
        wire::{Incident, Record, Severity, Timing, Verdict},
    },
    fact::is_incident_meant,
};

/// The incidents that a daemon remembers.
pub const INCIDENTS: usize = 256;

/// The latest events that can become evidence of an incident that opens after them.
pub const RECENT: usize = 2000;

/// The most events of an incident that are kept as evidence, and the most others.
const EVENTS: usize = 64;

/// Incidents and the events that concern them, in bounded memory.
#[derive(Debug)]
pub struct History {
    room: usize,
    recent: VecDeque<(u64, Entry)>,
    timelines: VecDeque<Timeline>,
}

/// One event of an incident's timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// `event.id`.
    pub id: String,
    /// RFC 3339, UTC.
    pub timestamp: String,
    /// Milliseconds since the fault; negative before it.
    pub after_ms: f64,
    pub action: Action,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Whether the verdict was reached from it.
    pub evidence: bool,
    pub message: String,
}

/// One incident in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub service: String,
    pub open: bool,
    /// The time of its end: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    pub incident: Incident,
    /// What happened, in the order of the stream.
    pub timeline: Vec<Entry>,
    /// Events in the middle that were not kept.
    pub left_out: u64,
    /// Ids of evidence that the history does not have.
    pub missing: Vec<String>,
}

/// An id that does not name exactly one incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotOne {
    None,
    Several(Vec<String>),
}

#[derive(Debug)]
struct Timeline {
    service: String,
    incident: Incident,
    until: Option<String>,
    hold: Option<String>,
    evidence: Vec<Entry>,
    steps: VecDeque<Entry>,
    left_out: u64,
}

impl Default for History {
    fn default() -> Self {
        Self::new(INCIDENTS)
    }
}

impl History {
    /// An empty history of at most `room` incidents.
    pub fn new(room: usize) -> Self {
        Self { room, recent: VecDeque::new(), timelines: VecDeque::new() }
    }

    pub fn incident_count(&self) -> usize {
        self.timelines.len()
    }

    pub fn recent_count(&self) -> usize {
        self.recent.len()
    }

    /// Takes in the next event of the stream.
    pub fn take(&mut self, record: Record) {
        let action = record.event.action;
        let is_step = matches!(
            action,
            Action::RestartRequest
                | Action::RestartDone
                | Action::RestartFail
                | Action::RestartHold
                | Action::AlertSend
                | Action::AlertFail
                | Action::AlertSuppress
        ) || action == Action::OperatorCommand && record.incident.is_some();
        if matches!(action, Action::IncidentOpen | Action::IncidentUpdate | Action::IncidentResolve) {
            self.incident(record);
        } else if is_step {
            self.step(record);
        } else if matches!(action, Action::ServiceState | Action::OperatorCommand) {
            // What happens to a service belongs to its open incident.
            self.state(record);
        } else if action == Action::AgentStart {
            // Another run's evidence has other ids.
            self.recent.clear();
        } else if !matches!(
            action,
            Action::AgentReady | Action::AgentReload | Action::AgentStop | Action::StreamLoss
        ) {
            self.remember(record);
        }
    }

    fn step(&mut self, record: Record) {
        let id = record.incident.as_ref().map(|incident| incident.id.clone());
        let Some(timeline) = id.and_then(|id| self.timeline(&id)) else { return };
        if record.event.action == Action::RestartHold {
            timeline.hold.clone_from(&record.event.reason);
        } else if record.event.action == Action::RestartRequest {
            timeline.hold = None;
        }
        timeline.step(entry(record));
    }

    fn state(&mut self, record: Record) {
        let service = record.service.as_ref().map(|service| service.name.clone());
        let entry = self.remember(record);
        let open = |timeline: &&mut Timeline| {
            timeline.until.is_none() && Some(&timeline.service) == service.as_ref()
        };
        if let Some(timeline) = self.timelines.iter_mut().rev().find(open) {
            timeline.step(entry);
        }
    }

    fn remember(&mut self, record: Record) -> Entry {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        let sequence = record.event.sequence;
        let entry = entry(record);
        self.recent.push_back((sequence, entry.clone()));
        entry
    }

    fn incident(&mut self, record: Record) {
        let Some(incident) = record.incident.clone() else { return };
        if self.timeline(&incident.id).is_none() {
            self.make_room();
            self.timelines.push_back(Timeline {
                service: record.service.as_ref().map(|service| service.name.clone()).unwrap_or_default(),
                incident: incident.clone(),
                until: None,
                hold: None,
                evidence: Vec::new(),
                steps: VecDeque::new(),
                left_out: 0,
            });
        }
        let recent = &self.recent;
        let Some(timeline) =
            self.timelines.iter_mut().rev().find(|timeline| timeline.incident.id == incident.id)
        else {
            return;
        };
        for id in incident.evidence.iter().flatten() {
            if timeline.evidence.len() < EVENTS && !timeline.evidence.iter().any(|known| known.id == *id) {
                let sequence = sequence(id);
                let found = recent.iter().rev().find(|(at, entry)| Some(*at) == sequence && entry.id == *id);
                timeline.evidence.extend(found.map(|(_, entry)| Entry { evidence: true, ..entry.clone() }));
            }
        }
        timeline.incident = incident;
        if record.event.action == Action::IncidentResolve {
            timeline.until = Some(record.timestamp.clone());
            timeline.hold = None;
        }
        timeline.step(entry(record));
    }

    /// Removes the oldest incident that is over, else the oldest.
    fn make_room(&mut self) {
        if self.timelines.len() >= self.room {
            let over = self.timelines.iter().position(|timeline| timeline.until.is_some());
            self.timelines.remove(over.unwrap_or(0));
        }
    }

    fn timeline(&mut self, id: &str) -> Option<&mut Timeline> {
        self.timelines.iter_mut().rev().find(|timeline| timeline.incident.id == id)
    }

    /// Why the service of an open incident is not restarted.
    pub fn hold(&self, service: &str) -> Option<&str> {
        let open = self
            .timelines
            .iter()
            .rev()
            .find(|timeline| timeline.until.is_none() && timeline.service == service);
        open?.hold.as_deref()
    }

    /// All incidents: the open ones first, then the latest first.
    pub fn incidents(&self) -> Vec<Listed> {
        let mut all: Vec<Listed> = self.timelines.iter().rev().map(Timeline::listed).collect();
        all.sort_by_key(|incident| !incident.open);
        all
    }

    /// The timeline of an incident by its id, or by the number at the end of it.
    pub fn explain(&self, which: &str) -> Result<Explanation, NotOne> {
        let meant = |timeline: &&Timeline| is_incident_meant(which, &timeline.incident.id);
        let found: Vec<&Timeline> = self.timelines.iter().filter(meant).collect();
        match found.as_slice() {
            [] => Err(NotOne::None),
            [timeline] => Ok(timeline.explained()),
            several => {
                Err(NotOne::Several(several.iter().map(|timeline| timeline.incident.id.clone()).collect()))
            }
        }
    }
}

impl Timeline {
    fn step(&mut self, entry: Entry) {
        if self.steps.len() == EVENTS {
            // The beginning and the end explain most.
            self.steps.remove(EVENTS / 2);
            self.left_out += 1;
        }
        self.steps.push_back(entry);
    }

    fn listed(&self) -> Listed {
        let incident = &self.incident;
        Listed {
            id: incident.id.clone(),
            service: self.service.clone(),
            open: self.until.is_none(),
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

    fn explained(&self) -> Explanation {
        let at = |text: &str| text.parse::<jiff::Timestamp>().ok();
        let since = self.incident.since.as_deref().and_then(at);
        let mut timeline: Vec<Entry> = self.evidence.clone();
        for step in &self.steps {
            if !timeline.iter().any(|known| known.id == step.id) {
                timeline.push(step.clone());
            }
        }
        for entry in &mut timeline {
            if let (Some(since), Some(at)) = (since, at(&entry.timestamp)) {
                entry.after_ms = (at.duration_since(since).as_micros() as f64) / 1000.0;
            }
        }
        // Events of one moment are stamped a few microseconds apart; their numbers are in the order of what happened.
        timeline.sort_by_key(|entry| sequence(&entry.id));
        let at_hand = |id: &&String| !self.evidence.iter().any(|entry| entry.id == **id);
        Explanation {
            service: self.service.clone(),
            open: self.until.is_none(),
            until: self.until.clone(),
            incident: self.incident.clone(),
            timeline,
            left_out: self.left_out,
            missing: self.incident.evidence.iter().flatten().filter(at_hand).cloned().collect(),
        }
    }
}

/// An event's place in its stream, which its id ends with.
fn sequence(id: &str) -> Option<u64> {
    id.rsplit('-').next()?.parse().ok()
}

fn entry(record: Record) -> Entry {
    Entry {
        id: record.event.id,
        timestamp: record.timestamp,
        after_ms: 0.0,
        action: record.event.action,
        service: record.service.map(|service| service.name),
        evidence: false,
        message: record.message,
    }
}

#[cfg(test)]
mod tests;
