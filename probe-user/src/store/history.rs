//! The latest incidents with their timelines, for `incidents` and `explain`.
//!
//! It is built from the stream's own events, so a recorded file gives the same answers as a running daemon.

mod entry;
mod surroundings;
mod timeline;

use std::collections::VecDeque;

pub use entry::{Entry, Further, What};
use entry::{MESSAGE, entry};
use surroundings::{Lately, Surroundings};
use timeline::sequence;
pub use timeline::{Explanation, Listed, NotOne, Timeline};

use crate::{
    emit::{
        action::Action,
        wire::{self, Record},
    },
    fact::is_incident_meant,
};

/// The incidents that a daemon remembers.
pub const INCIDENTS: usize = 256;

/// The latest events that can become evidence of an incident that opens after them.
pub const RECENT: usize = 2000;

/// Incidents and the events that concern them, in bounded memory.
#[derive(Debug)]
pub struct History {
    room: usize,
    recent: VecDeque<(u64, Entry)>,
    timelines: VecDeque<Timeline>,
    /// How many of them are of open incidents.
    open: usize,
    lately: Lately,
}

impl Default for History {
    fn default() -> Self {
        Self::new(INCIDENTS)
    }
}

impl History {
    /// An empty history of at most `room` incidents.
    pub fn new(room: usize) -> Self {
        let (recent, timelines) = (VecDeque::new(), VecDeque::new());
        Self { room, recent, timelines, open: 0, lately: Lately::default() }
    }

    /// Takes over the open incidents of an earlier run of the daemon.
    pub fn remember_open(&mut self, open: Vec<Timeline>) {
        self.timelines.extend(open);
        self.count_open();
    }

    fn count_open(&mut self) {
        self.open = self.timelines.iter().filter(|timeline| timeline.is_open()).count();
    }

    pub fn incident_count(&self) -> usize {
        self.timelines.len()
    }

    pub fn recent_count(&self) -> usize {
        self.recent.len()
    }

    /// Takes in the next event of the stream. Returns the incident that it belongs to.
    pub fn take(&mut self, record: Record) -> Option<&Timeline> {
        let action = record.event.action;
        if let Some(entry) = self.lately.take(&record) {
            self.surround(&entry, record.incident.as_ref().map(|incident| incident.id.as_str()));
        }
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
            return self.incident(record);
        }
        if is_step {
            return self.step(record);
        }
        if matches!(action, Action::ServiceState | Action::OperatorCommand) {
            // What happens to a service belongs to its open incident.
            return self.state(record);
        }
        if action == Action::AgentStart {
            // Another run's evidence has other ids.
            self.recent.clear();
        } else if !matches!(
            action,
            Action::AgentReady | Action::AgentReload | Action::AgentStop | Action::StreamLoss
        ) {
            self.remember(record);
        }
        None
    }

    /// Adds an event to the open incidents that it is not of.
    fn surround(&mut self, entry: &Entry, of: Option<&str>) {
        let open = self.timelines.iter_mut().rev().filter(|timeline| timeline.is_open()).take(self.open);
        for timeline in open.filter(|timeline| Some(timeline.id()) != of) {
            timeline.surround(entry);
        }
    }

    fn step(&mut self, record: Record) -> Option<&Timeline> {
        let id = record.incident.as_ref().map(|incident| incident.id.clone());
        let timeline = self.timeline(&id?)?;
        timeline.act(record);
        Some(timeline)
    }

    fn state(&mut self, record: Record) -> Option<&Timeline> {
        let service = record.service.as_ref().map(|service| service.name.clone());
        let entry = self.remember(record);
        let open =
            |timeline: &&mut Timeline| timeline.is_open() && Some(&timeline.service) == service.as_ref();
        let timeline = self.timelines.iter_mut().rev().find(open)?;
        timeline.step(entry);
        Some(timeline)
    }

    fn remember(&mut self, record: Record) -> Entry {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        let sequence = record.event.sequence;
        let entry = entry(&record, MESSAGE);
        self.recent.push_back((sequence, entry.clone()));
        entry
    }

    fn incident(&mut self, record: Record) -> Option<&Timeline> {
        let incident = record.incident.clone()?;
        if self.timeline(&incident.id).is_none() {
            self.make_room();
            let fault = incident.since.as_deref().and_then(surroundings::micros);
            let before = fault.map(|fault| Surroundings::before(&self.lately, fault)).unwrap_or_default();
            self.timelines.push_back(Timeline::new(incident.clone(), &record, before));
        }
        let recent = &self.recent;
        let at = self.timelines.iter().rposition(|timeline| timeline.incident.id == incident.id)?;
        let timeline = self.timelines.get_mut(at)?;
        for id in incident.evidence.iter().flatten() {
            let sequence = sequence(id);
            let is_meant = |(at, entry): &&(u64, Entry)| Some(*at) == sequence && entry.id == *id;
            timeline.add_evidence(id, || recent.iter().rev().find(is_meant).map(|(_, entry)| entry));
        }
        timeline.update(incident, record);
        self.count_open();
        self.timelines.get(at)
    }

    /// Adds what explains the fault of a service's last incident, if that is over and lacks it. Returns the incident then.
    /// `context` is as of [`crate::emit::context`].
    pub fn explain_last(&mut self, service: &str, context: wire::Incident) -> Option<&Timeline> {
        let last = self.timelines.iter_mut().rev().find(|timeline| timeline.service == service)?;
        last.explain(context).then_some(last)
    }

    /// Removes the oldest incident that is over, else the oldest.
    fn make_room(&mut self) {
        if self.timelines.len() >= self.room {
            let over = self.timelines.iter().position(|timeline| !timeline.is_open());
            self.timelines.remove(over.unwrap_or(0));
        }
    }

    fn timeline(&mut self, id: &str) -> Option<&mut Timeline> {
        self.timelines.iter_mut().rev().find(|timeline| timeline.incident.id == id)
    }

    /// Why the service of an open incident is not restarted.
    pub fn hold(&self, service: &str) -> Option<&str> {
        let is_meant = |timeline: &&Timeline| timeline.is_open() && timeline.service == service;
        self.timelines.iter().rev().find(is_meant)?.hold()
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
        Timeline::only(self.timelines.iter().filter(meant))
    }
}

#[cfg(test)]
mod tests;
