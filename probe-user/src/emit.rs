//! The event stream: one JSON object per line. This module alone knows the format.
//!
//! [`Emitter::publish`] numbers a fact, renders it and puts the line into each sink's bounded queue. It never
//! waits. Each sink has a writer thread.

pub mod action;
mod clip;
mod destination;
mod error;
mod file;
mod journald;
mod lines;
mod origin;
mod output;
mod pods;
mod render;
mod schema;
mod sink;
mod socket;
mod stdout;
mod tail;
pub mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub(crate) use clip::clipped;
pub use destination::{Destination, QueueLimits};
pub use error::SinkError;
pub use lines::{for_each_event, for_each_line};
pub use origin::{ForeignName, HOST_NAME, Name, Names, Origin, special};
pub use output::open_outputs;
pub use render::MAX_LINE;
pub(crate) use render::{detail, wall};
pub use schema::schema;
pub use sink::{Loss, Sink};
pub use stdout::Descriptor;
pub use tail::{Batch, Line, Tail, Watcher};

use crate::{
    bounded_thread,
    clock::Timestamp,
    escape,
    fact::{ContainerState, EventId, Fact, FaultContext, Incident, ServiceId, ServiceState},
    host::pod::Pods,
};

/// Facts that wait to be rendered, at most.
const UNRENDERED: usize = 64;

#[derive(Debug)]
pub struct Emitter {
    origin: Origin,
    names: Names,
    /// The last reported state of each service, for later events.
    states: BTreeMap<ServiceId, ServiceState>,
    sinks: Vec<Sink>,
    /// The containers that services are, by the names of the services.
    containers: BTreeMap<String, ContainerState>,
    pods: pods::KnownPods,
    /// The name of the sink that no reload replaces.
    lasting: Option<String>,
    /// The events that outputs before a reload lost.
    lost_before: u64,
    last: u64,
    line: Vec<u8>,
    /// Those of the events that were rendered since [`Self::take_records`].
    records: Vec<wire::Record>,
    /// Events wait for [`Self::release`].
    is_holding: bool,
    /// What waits and is not rendered yet: the decision that it tells of is to be carried out first.
    unrendered: Vec<(EventId, Fact, Timestamp)>,
    tail: Tail,
}

impl Emitter {
    pub fn new(origin: Origin, names: Names, sinks: Vec<Sink>) -> Self {
        let states = BTreeMap::new();
        Self {
            origin,
            names,
            states,
            sinks,
            containers: BTreeMap::new(),
            pods: pods::KnownPods::default(),
            lasting: None,
            lost_before: 0,
            last: 0,
            line: Vec::with_capacity(4096),
            records: Vec::new(),
            is_holding: false,
            unrendered: Vec::new(),
            tail: Tail::default(),
        }
    }

    /// Publishes to one more sink, which no reload replaces.
    pub fn add_lasting(&mut self, sink: Sink) {
        self.lasting = Some(sink.name().to_owned());
        self.sinks.push(sink);
    }

    /// Keeps the next events without writing them.
    pub fn hold(&mut self) {
        self.is_holding = true;
    }

    /// Renders the events that are held.
    pub fn render_held(&mut self) {
        for (id, fact, at) in std::mem::take(&mut self.unrendered) {
            self.write(&fact, at, id);
        }
    }

    /// Has the events written that were held.
    pub fn release(&mut self) {
        self.render_held();
        if std::mem::take(&mut self.is_holding) {
            self.sinks.iter().for_each(Sink::flush);
        }
    }

    /// Publishes a fact that became known at `at`, and returns its place in the stream. A fact with its own time
    /// keeps it. Never waits: a sink without room loses the event and counts it, and the stream reports the loss
    /// once there is room.
    pub fn publish(&mut self, fact: &Fact, at: Timestamp) -> EventId {
        self.report_losses(at);
        self.number(fact, at)
    }

    /// Reports the losses of sinks that have room again. [`Self::publish`] does the same; a regular call covers
    /// times without facts.
    pub fn report_losses(&mut self, at: Timestamp) {
        for sink in 0..self.sinks.len() {
            let Loss { usual, essential } = self.sinks[sink].take_loss();
            for (class, count) in [("events", usual), ("essential_events", essential)] {
                if count > 0 {
                    let place = self.sinks[sink].name().to_owned();
                    self.number(&Fact::Loss { class: class.to_owned(), count, place }, at);
                }
            }
        }
    }

    /// The lost events of all sinks.
    pub fn lost(&self) -> u64 {
        self.lost_before + self.sinks.iter().map(Sink::lost).sum::<u64>()
    }

    /// The waiting lines of the fullest sink.
    pub fn waiting(&self) -> usize {
        self.sinks.iter().map(Sink::waiting).max().unwrap_or_default()
    }

    pub fn published(&self) -> u64 {
        self.last
    }

    /// The events that were rendered since the last call, for the history.
    pub fn take_records(&mut self) -> Vec<wire::Record> {
        std::mem::take(&mut self.records)
    }

    /// What those who watch the stream live get.
    pub fn tail(&self) -> Tail {
        self.tail.clone()
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The container that a service is, for its next events.
    pub fn set_container(&mut self, service: ServiceId, container: ContainerState) {
        self.render_held();
        self.containers.insert(self.names.service(service).to_owned(), container);
    }

    /// The pods of this node, for the events about processes in them.
    pub fn set_pods(&mut self, pods: Pods) {
        self.render_held();
        self.pods.set(pods);
    }

    /// Replaces the services after a reload.
    pub fn rename(&mut self, names: Names) {
        self.render_held();
        self.names = names;
        let kept: BTreeSet<ServiceId> = self.names.ids().collect();
        self.states.retain(|id, _| kept.contains(id));
        let names: BTreeSet<&str> = kept.iter().map(|id| self.names.service(*id)).collect();
        self.containers.retain(|name, _| names.contains(name.as_str()));
    }

    /// Publishes to other outputs from now on. A thread writes what the old ones still hold, for at most `patience` each.
    pub fn replace_outputs(&mut self, outputs: Vec<Sink>, patience: Duration) {
        self.render_held();
        let all = std::mem::replace(&mut self.sinks, outputs);
        let is_lasting = |sink: &Sink| self.lasting.as_deref() == Some(sink.name());
        let (lasting, before): (Vec<Sink>, Vec<Sink>) = all.into_iter().partition(is_lasting);
        self.sinks.extend(lasting);
        self.lost_before += before.iter().map(Sink::lost).sum::<u64>();
        let write = move || {
            for sink in before {
                sink.shutdown(patience);
            }
        };
        if let Err(error) = bounded_thread::start("output", write) {
            tracing::warn!("event stream: the last events of the former output are lost: {error}");
        }
    }

    /// Reopens files after a log rotation.
    pub fn reopen(&self) {
        self.sinks.iter().for_each(Sink::reopen);
    }

    /// Writes the queued lines, for at most `patience` per sink, and returns the number of lost events.
    pub fn shutdown(mut self, patience: Duration) -> u64 {
        self.render_held();
        self.sinks.into_iter().map(|sink| sink.shutdown(patience)).sum()
    }

    fn number(&mut self, fact: &Fact, at: Timestamp) -> EventId {
        self.last += 1;
        let id = EventId(self.last);
        if self.is_holding && self.unrendered.len() < UNRENDERED {
            self.unrendered.push((id, fact.clone(), at));
        } else {
            self.render_held();
            self.write(fact, at, id);
        }
        id
    }

    /// Gives the line of an event to the sinks.
    fn write(&mut self, fact: &Fact, at: Timestamp, id: EventId) {
        if let Fact::ServiceState(service, state, _, _) = fact {
            self.states.insert(*service, *state);
        }
        let record = self.render(fact, at, id);
        self.records.push(record);
        self.tail.add(id.0, &self.line);
        let essential = action::Action::of(fact).is_essential();
        for sink in &self.sinks {
            match (self.is_holding, essential) {
                (true, _) => sink.hold(&self.line, essential),
                (false, true) => sink.push_essential(&self.line),
                (false, false) => sink.push(&self.line),
            }
        }
    }

    /// Renders into `self.line`, and returns what the line has. Escapes can make a text several times longer, so a line that is
    /// too long is rendered again with half the room until it fits. The rest of a line has a fixed size.
    fn render(&mut self, fact: &Fact, at: Timestamp, id: EventId) -> wire::Record {
        let mut halvings = 0;
        loop {
            self.line.clear();
            let renderer =
                render::Renderer { origin: &self.origin, names: &self.names, states: &self.states, halvings };
            let mut record = renderer.record(fact, at, id);
            self.pods.add(&renderer, &mut record);
            let service = record.service.as_ref().map(|service| service.name.as_str());
            if let Some(container) = service.and_then(|name| self.containers.get(name)) {
                renderer.add_container(&mut record, container);
            }
            if let Err(error) = serde_json::to_writer(&mut self.line, &record) {
                // Only a map without string keys could fail, and there is none.
                tracing::error!("event {}: could not render it: {error}", id.0);
            }
            // Events go to a terminal too.
            escape::escaped_json(&mut self.line);
            self.line.push(b'\n');
            halvings += 1;
            if self.line.len() <= MAX_LINE || halvings == usize::BITS {
                return record;
            }
        }
    }
}

/// An incident in the form of the stream, for alerts.
pub fn incident(incident: &Incident, origin: &Origin, names: &Names) -> wire::Incident {
    render::Renderer { origin, names, states: &BTreeMap::new(), halvings: 0 }.incident(incident)
}

/// What explains a fault in the form of the stream: an incident that has nothing else.
pub fn context(context: &FaultContext, origin: &Origin, names: &Names) -> wire::Incident {
    render::Renderer { origin, names, states: &BTreeMap::new(), halvings: 0 }.context(context)
}

/// The word of one of the stream's closed vocabularies, such as a verdict's.
pub fn word(word: &impl serde::Serialize) -> String {
    match serde_json::to_value(word) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
