//! What was said of the latest incidents, for those who ask afterwards.
//!
//! It is told from the stream's own events, so that a recorded file gives the same answers as a running daemon.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::emit::{
    action::Action,
    wire::{Incident, Record, Severity, Timing, Verdict},
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
    stories: VecDeque<Story>,
}

/// One event in the story of an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// `event.id`.
    pub id: String,
    /// When it happened: RFC 3339, UTC.
    pub timestamp: String,
    /// How long after the fault, in milliseconds; negative before it.
    pub after_ms: f64,
    /// What happened.
    pub action: Action,
    /// The service it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Whether the verdict was reached from it.
    pub evidence: bool,
    /// It in a sentence.
    pub message: String,
}

/// One incident in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// The service that failed.
    pub service: String,
    /// Whether it is not over.
    pub open: bool,
    /// What happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// How loud it is, or was at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// One sentence for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// When the fault happened: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// How many restarts were tried for it.
    pub attempts: u32,
    /// How long each step took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Timing>,
    /// Why it is not restarted, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
}

/// One incident, from its evidence to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The service that failed.
    pub service: String,
    /// Whether it is not over.
    pub open: bool,
    /// When it was over: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The incident as it stands.
    pub incident: Incident,
    /// What happened, in the order of the stream.
    pub timeline: Vec<Entry>,
    /// Events in the middle that were not kept.
    pub left_out: u64,
    /// Evidence that was no longer, or never, at hand.
    pub missing: Vec<String>,
}

/// No incident is meant, or several are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotOne {
    /// There is none of this id.
    None,
    /// There are these.
    Several(Vec<String>),
}

#[derive(Debug)]
struct Story {
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
    /// An empty history with room for so many incidents.
    pub fn new(room: usize) -> Self {
        Self { room, recent: VecDeque::new(), stories: VecDeque::new() }
    }

    /// How many incidents it knows.
    pub fn incident_count(&self) -> usize {
        self.stories.len()
    }

    /// How many events it keeps that may become evidence.
    pub fn recent_count(&self) -> usize {
        self.recent.len()
    }

    /// Takes in the next event of the stream.
    pub fn take(&mut self, record: Record) {
        match record.event.action {
            Action::IncidentOpen | Action::IncidentUpdate | Action::IncidentResolve => self.incident(record),
            Action::RestartRequest
            | Action::RestartDone
            | Action::RestartFail
            | Action::RestartHold
            | Action::AlertSend
            | Action::AlertFail => {
                let id = record.incident.as_ref().map(|incident| incident.id.clone());
                if let Some(story) = id.and_then(|id| self.story(&id)) {
                    match record.event.action == Action::RestartHold {
                        true => story.hold.clone_from(&record.event.reason),
                        false if record.event.action == Action::RestartRequest => story.hold = None,
                        false => {}
                    }
                    story.step(entry(record));
                }
            }
            Action::ServiceState => {
                let service = record.service.as_ref().map(|service| service.name.clone());
                let entry = self.remember(record);
                let open =
                    |story: &&mut Story| story.until.is_none() && Some(&story.service) == service.as_ref();
                if let Some(story) = self.stories.iter_mut().rev().find(open) {
                    story.step(entry);
                }
            }
            Action::ProcessExit
            | Action::ProcessOomKill
            | Action::ListenerUp
            | Action::ListenerDown
            | Action::SocketError
            | Action::SocketRetransmit
            | Action::SocketBacklog
            | Action::ProcessSuspend
            | Action::ServiceDependency
            | Action::UnitState
            | Action::ProbeFail
            | Action::ProbeRecover
            | Action::ProbeSlow => {
                self.remember(record);
            }
            // Another run's evidence has other ids.
            Action::AgentStart => self.recent.clear(),
            Action::AgentReady | Action::AgentReload | Action::AgentStop | Action::StreamLoss => {}
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
        if self.story(&incident.id).is_none() {
            self.make_room();
            self.stories.push_back(Story {
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
        let Some(story) = self.stories.iter_mut().rev().find(|story| story.incident.id == incident.id) else {
            return;
        };
        for id in incident.evidence.iter().flatten() {
            if story.evidence.len() < EVENTS && !story.evidence.iter().any(|known| known.id == *id) {
                let sequence = sequence(id);
                let found = recent.iter().rev().find(|(at, entry)| Some(*at) == sequence && entry.id == *id);
                story.evidence.extend(found.map(|(_, entry)| Entry { evidence: true, ..entry.clone() }));
            }
        }
        story.incident = incident;
        if record.event.action == Action::IncidentResolve {
            story.until = Some(record.timestamp.clone());
            story.hold = None;
        }
        story.step(entry(record));
    }

    /// Forgets the oldest incident that is over; if none is, the oldest.
    fn make_room(&mut self) {
        if self.stories.len() >= self.room {
            let over = self.stories.iter().position(|story| story.until.is_some());
            self.stories.remove(over.unwrap_or(0));
        }
    }

    fn story(&mut self, id: &str) -> Option<&mut Story> {
        self.stories.iter_mut().rev().find(|story| story.incident.id == id)
    }

    /// Why a service is not restarted, as was last said of its open incident.
    pub fn hold(&self, service: &str) -> Option<&str> {
        let open = self.stories.iter().rev().find(|story| story.until.is_none() && story.service == service);
        open?.hold.as_deref()
    }

    /// All incidents: the open ones first, then the latest first.
    pub fn incidents(&self) -> Vec<Listed> {
        let mut all: Vec<Listed> = self.stories.iter().rev().map(Story::listed).collect();
        all.sort_by_key(|incident| !incident.open);
        all
    }

    /// Tells the story of an incident by its id, or by the number at the end of it.
    pub fn explain(&self, which: &str) -> Result<Explanation, NotOne> {
        let number = which.trim_start_matches('i');
        let meant = |story: &&Story| {
            let id = story.incident.id.as_str();
            id == which || id.rsplit_once("-i").is_some_and(|(_, end)| end == number)
        };
        let found: Vec<&Story> = self.stories.iter().filter(meant).collect();
        match found.as_slice() {
            [] => Err(NotOne::None),
            [story] => Ok(story.explained()),
            several => Err(NotOne::Several(several.iter().map(|story| story.incident.id.clone()).collect())),
        }
    }
}

impl Story {
    fn step(&mut self, entry: Entry) {
        if self.steps.len() == EVENTS {
            // The beginning and the end tell most.
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
