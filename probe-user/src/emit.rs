//! The event stream: one JSON object a line. This module alone knows its format.
//!
//! [`Emitter::publish`] numbers a fact, renders it and hands the line to each sink's bounded queue; it never waits.
//! Each sink has a thread that writes.

pub mod action;
mod clip;
mod destination;
mod error;
mod file;
mod lines;
mod origin;
mod output;
mod render;
mod schema;
mod sink;
mod stdout;
pub mod wire;

use std::time::Duration;

pub(crate) use clip::clipped;
pub use destination::{Destination, QueueLimits};
pub use error::SinkError;
pub use file::{EventFile, Rotation};
pub use lines::{for_each_event, for_each_line};
pub use origin::{Name, Names, Origin};
pub use output::open_output;
pub use render::MAX_LINE;
pub(crate) use render::{detail, wall};
pub use schema::schema;
pub use sink::Sink;
pub use stdout::Descriptor;

use crate::{
    clock::Timestamp,
    fact::{EventId, Fact, Incident, ServiceState},
};

/// Numbers facts, renders them, and hands them to the sinks.
#[derive(Debug)]
pub struct Emitter {
    origin: Origin,
    names: Names,
    /// The last reported state of each service, by its id, for the events that follow.
    states: Vec<Option<ServiceState>>,
    sinks: Vec<Sink>,
    last: u64,
    line: Vec<u8>,
    /// The last event as it was rendered.
    last_record: Option<wire::Record>,
}

impl Emitter {
    /// A stream that begins with event 1.
    pub fn new(origin: Origin, names: Names, sinks: Vec<Sink>) -> Self {
        let states = vec![None; names.len()];
        Self { origin, names, states, sinks, last: 0, line: Vec::with_capacity(4096), last_record: None }
    }

    /// Publishes a fact that became known at `at`, and returns its place in the stream. A fact that knows its own
    /// time carries that. Never waits: an event that a sink has no room for is lost and counted, and the stream
    /// reports the loss as soon as there is room.
    pub fn publish(&mut self, fact: &Fact, at: Timestamp) -> EventId {
        self.report_losses(at);
        self.number(fact, at)
    }

    /// Reports the losses of sinks that have room again. [`Self::publish`] does the same; a regular call is for the
    /// time when no fact is published.
    pub fn report_losses(&mut self, at: Timestamp) {
        for sink in 0..self.sinks.len() {
            let count = self.sinks[sink].take_loss();
            if count > 0 {
                let place = self.sinks[sink].name().to_owned();
                self.number(&Fact::Loss { class: "events".to_owned(), count, place }, at);
            }
        }
    }

    /// How many events were lost so far, in all sinks together.
    pub fn lost(&self) -> u64 {
        self.sinks.iter().map(Sink::lost).sum()
    }

    /// How many lines wait to be written, in the sink where there are most.
    pub fn waiting(&self) -> usize {
        self.sinks.iter().map(Sink::waiting).max().unwrap_or_default()
    }

    /// How many events were published so far.
    pub fn published(&self) -> u64 {
        self.last
    }

    /// The event that was published last, for the history; None the second time.
    pub fn take_last(&mut self) -> Option<wire::Record> {
        self.last_record.take()
    }

    /// The host and this run.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The services' names.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Takes over the services of another configuration.
    pub fn rename(&mut self, names: Names) {
        self.states = vec![None; names.len()];
        self.names = names;
    }

    /// Reopens files that something else has moved away.
    pub fn reopen(&self) {
        self.sinks.iter().for_each(Sink::reopen);
    }

    /// Writes what is queued, for at most `patience` per sink, and returns how many events were lost in all.
    pub fn shutdown(self, patience: Duration) -> u64 {
        self.sinks.into_iter().map(|sink| sink.shutdown(patience)).sum()
    }

    fn number(&mut self, fact: &Fact, at: Timestamp) -> EventId {
        self.last += 1;
        let id = EventId(self.last);
        if let Fact::ServiceState(service, state, _, _) = fact
            && let Some(known) = usize::try_from(service.0).ok().and_then(|at| self.states.get_mut(at))
        {
            *known = Some(*state);
        }
        self.render(fact, at, id);
        for sink in &self.sinks {
            sink.push(&self.line);
        }
        id
    }

    /// Renders into `self.line`. Escapes can make a text several times longer than it is, so a line that comes
    /// out too long is rendered again with half the room, until it fits; what is left then is of fixed size.
    fn render(&mut self, fact: &Fact, at: Timestamp, id: EventId) {
        for halvings in 0..usize::BITS {
            self.line.clear();
            let renderer =
                render::Renderer { origin: &self.origin, names: &self.names, states: &self.states, halvings };
            let record = renderer.record(fact, at, id);
            if let Err(error) = serde_json::to_writer(&mut self.line, &record) {
                // Only a map with keys that are no strings could fail, and there is none.
                tracing::error!("event {} could not be rendered: {error}", id.0);
            }
            self.last_record = Some(record);
            self.line.push(b'\n');
            if self.line.len() <= MAX_LINE {
                return;
            }
        }
    }
}

/// An incident as the stream shows it, for alerts.
pub fn incident(incident: &Incident, origin: &Origin, names: &Names) -> wire::Incident {
    render::Renderer { origin, names, states: &[], halvings: 0 }.incident(incident)
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
