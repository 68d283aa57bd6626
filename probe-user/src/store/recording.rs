//! The recording: the engine's observations and decisions. `hostprobe replay` repeats the decisions from it.
//!
//! The daemon records each observation before the engine observes it, with services by name ([`portable`]), and each
//! decision ([`Decision`]). It leaves out observations that change nothing ([`filter`]). A writer thread writes the
//! lines to bounded files ([`segment`]).

mod decision;
pub mod filter;
pub mod line;
pub mod portable;
pub mod segment;

use std::{path::PathBuf, time::Duration};

pub use decision::{Decided, Decision};
use filter::Filter;
use line::{Entry, Line, MOST_SERVICES, Seen, Start};
use segment::{FOLDER, Limits, Segments};

use crate::{
    clock::Timestamp,
    config::{self, Config},
    emit::{MAX_LINE, Names, Origin, QueueLimits, Sink, SinkError, clipped, wall},
    fact::{Fact, Observation},
    host::private_folder,
    redact::redact,
};

/// The most lines that wait to be written: a storm of some thousand observations, within a few MiB.
const QUEUE: QueueLimits = QueueLimits { lines: 8192, bytes: 4 << 20 };

/// The longest text of a process, such as its arguments, in bytes.
const TEXT: usize = 4096;

/// The most items of a list, such as that of a database's clients.
const ITEMS: usize = 64;

/// So many entries wait to be rendered, at most.
const UNRENDERED: usize = 64;

/// How long lines without a decision may wait: a wake-up a second is more than an idle daemon needs.
const QUIET: Duration = Duration::from_secs(10);

/// The daemon cannot record.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The folder cannot be used.
    #[error(
        "{}: the daemon cannot record to this folder: {why}; let [state] directory name a folder that only the \
         daemon's user may write to, or set [state] recording = \"\"",
        path.display()
    )]
    Folder { path: PathBuf, why: String },
    /// The writer thread does not start.
    #[error(transparent)]
    Thread(#[from] SinkError),
}

/// Records the engine's observations and decisions.
#[derive(Debug)]
pub struct Recording {
    sink: Sink,
    filter: Filter,
    names: Names,
    origin: Origin,
    /// Counts the lines of this run; a gap in a recording is loss.
    sequence: u64,
    /// What the loop took in or decided on since it was last at rest. It has more urgent work than to render it.
    unrendered: Vec<(Timestamp, Unrendered)>,
    line: Vec<u8>,
    /// The time of the first line that is not flushed.
    unflushed: Option<Timestamp>,
    /// A decision is among the lines that are not flushed.
    decided: bool,
}

#[derive(Debug)]
enum Unrendered {
    Observation(Box<Observation>),
    Tick,
    Decision(Decision),
}

impl Recording {
    /// Starts the recording of a run in the state directory; None if the configuration turns it off.
    pub fn open(
        config: &Config,
        observe: bool,
        origin: &Origin,
        names: &Names,
        start: Timestamp,
    ) -> Result<Option<Self>, RecordingError> {
        let Some(limits) = Limits::of(config.state.recording_bytes) else { return Ok(None) };
        let Config { state, services, .. } = config;
        let path = state.directory.join(FOLDER);
        let header = header(config, observe, origin, start);
        let segments = private_folder::open(&state.directory)
            .and_then(|_| Segments::open(&path, &origin.ephemeral_id, header, limits))
            .map_err(|why| RecordingError::Folder { path, why })?;
        let sink = Sink::spawn(segments, QUEUE)?;
        Ok(Some(Self::new(sink, services, origin, names)))
    }

    /// A recording that this sink takes to its file.
    pub(crate) fn new(sink: Sink, services: &[config::Service], origin: &Origin, names: &Names) -> Self {
        let (names, origin) = (names.clone(), origin.clone());
        let filter = Filter::new(services);
        Self {
            sink,
            filter,
            names,
            origin,
            sequence: 0,
            unrendered: Vec::new(),
            line: Vec::new(),
            unflushed: None,
            decided: false,
        }
    }

    /// Records an observation before the engine observes it at `now`, if a replay needs it.
    pub fn on_observation(&mut self, now: Timestamp, observation: &Observation) {
        if self.filter.wants(now, observation) {
            self.take(now, Unrendered::Observation(Box::new(observation.clone())));
        }
    }

    fn take(&mut self, at: Timestamp, entry: Unrendered) {
        self.unrendered.push((at, entry));
        if self.unrendered.len() >= UNRENDERED {
            self.render_waiting();
        }
    }

    /// Renders what was recorded. A call when nothing urgent is left costs no decision its time.
    pub fn render_waiting(&mut self) {
        for (at, entry) in std::mem::take(&mut self.unrendered) {
            match entry {
                Unrendered::Observation(observation) => self.render_observation(at, &observation),
                Unrendered::Tick => {
                    self.render(at, Entry::Tick {});
                    self.push(at);
                }
                Unrendered::Decision(decision) => {
                    self.render(at, Entry::Decision(decision));
                    self.push(at);
                    self.decided = true;
                }
            }
        }
    }

    fn render_observation(&mut self, now: Timestamp, observation: &Observation) {
        // Escapes can make a text several times longer than it is.
        for halvings in 0..usize::BITS {
            let seen = self.seen(observation.clone(), halvings);
            self.render(now, Entry::Observation(seen));
            if self.line.len() <= MAX_LINE {
                break;
            }
            self.sequence -= 1;
        }
        self.push(now);
    }

    /// Takes over the names of the services after a reload.
    pub fn rename(&mut self, names: Names) {
        self.render_waiting();
        self.names = names;
    }

    /// Records that the engine ticks at `now`.
    pub fn on_tick(&mut self, now: Timestamp) {
        self.take(now, Unrendered::Tick);
    }

    /// Records a fact that the daemon published at `at`, if it is a decision.
    pub fn on_fact(&mut self, fact: &Fact, at: Timestamp) {
        self.filter.on_fact(fact, at);
        if let Some(decision) = Decision::of(fact, &self.names, &self.origin) {
            self.take(at, Unrendered::Decision(decision));
        }
    }

    /// Has the lines written: those with a decision at once, others after ten seconds.
    pub fn every_second(&mut self, now: Timestamp) {
        self.render_waiting();
        if self.decided || self.unflushed.is_some_and(|first| now.since(first) >= QUIET) {
            self.sink.flush();
            (self.unflushed, self.decided) = (None, false);
        }
    }

    /// The lines that were lost since the last call, once there is room again.
    pub fn take_loss(&self) -> u64 {
        self.sink.take_loss().usual
    }

    /// The path of the recording.
    pub fn place(&self) -> &str {
        self.sink.name()
    }

    /// Writes the queued lines, for at most `patience`, and returns the number of lost lines.
    pub fn shutdown(mut self, patience: Duration) -> u64 {
        self.render_waiting();
        self.sink.shutdown(patience)
    }

    fn seen(&self, observation: Observation, halvings: u32) -> Seen {
        let half = |room: usize| room.checked_shr(halvings).unwrap_or(0);
        let (mut seen, services) = portable::named(observation, |id| self.names.service(id).to_owned());
        let cut = portable::shorten(&mut seen, half(ITEMS), |text| {
            *text = clipped(&redact(text), half(TEXT));
        });
        // An observation has no maps except in its own fields, so this cannot fail; a replay would report it.
        let seen = serde_json::to_value(seen).unwrap_or_default();
        Seen { services, seen, clipped: cut || halvings > 0 }
    }

    /// Queues the rendered line. A wake-up of the writer would delay the restart that is under way.
    fn push(&mut self, at: Timestamp) {
        self.sink.push_unflushed(&self.line);
        self.unflushed.get_or_insert(at);
    }

    /// Renders the next line into `self.line`.
    fn render(&mut self, at: Timestamp, entry: Entry) {
        self.sequence += 1;
        self.line.clear();
        write(&mut self.line, &self.origin, self.sequence, at, entry);
    }
}

/// The start of a run, which each segment begins with.
pub(crate) fn header(config: &Config, observe: bool, origin: &Origin, start: Timestamp) -> Vec<u8> {
    let services = &config.services;
    let mut line = Vec::new();
    let entry = Entry::Start(Start {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        start_ns: start.as_nanos(),
        observe,
        digest: portable::digest(services, config.restart_budget),
        services: services.iter().take(MOST_SERVICES).map(|service| service.name.clone()).collect(),
    });
    write(&mut line, origin, 0, start, entry);
    line
}

fn write(into: &mut Vec<u8>, origin: &Origin, sequence: u64, at: Timestamp, entry: Entry) {
    let run = origin.ephemeral_id.clone();
    let line = Line { run, sequence, timestamp: wall(at), at_ns: at.as_nanos(), entry };
    if let Err(error) = serde_json::to_writer(&mut *into, &line) {
        // Only a map without string keys could fail, and there is none.
        tracing::error!("recording, line {sequence}: it could not be rendered: {error}");
    }
    into.push(b'\n');
}
