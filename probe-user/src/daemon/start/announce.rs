//! The second phase of the start: the event stream opens, and the self-test proves that the sensors report an exit.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;

use super::{
    attach::Attached,
    options::{RunError, RunOptions},
};
use crate::{
    clock::Timestamp,
    config::{Config, Fleet, StateOptions},
    daemon::publisher::Publisher,
    emit::{Emitter, Name, Names, Origin, QueueLimits, Sink, open_outputs},
    engine::Engine,
    fact::{AgentStart, Fact, Memory, ServiceId},
    fleet::spool,
    process::self_test,
    sensor::record::Record,
    serve::View,
    store::{
        directory::StateDirectory,
        history::Timeline,
        recording::Recording,
        state::{Remembered, StateStore},
    },
};

/// What the second phase made.
pub(super) struct Announced {
    pub(super) origin: Origin,
    pub(super) names: Names,
    pub(super) publisher: Publisher,
    /// None without a state directory.
    pub(super) state: Option<State>,
    pub(super) view: watch::Receiver<Arc<View>>,
    pub(super) engine: Engine,
    /// The records of the sensors during the self-test.
    pub(super) seen: Vec<Record>,
    pub(super) self_test: Result<Duration, String>,
    /// What goes to the fleet; None without one.
    pub(super) spool: Option<spool::Reader>,
}

/// The state that outlives the daemon.
pub(super) struct State {
    /// Keeps other daemons off the directory.
    pub(super) directory: StateDirectory,
    pub(super) store: Option<StateStore>,
    /// What an earlier run has left.
    pub(super) remembered: Remembered,
    /// What the engine has to know of it.
    pub(super) memories: Vec<(ServiceId, Memory)>,
}

impl State {
    /// The incidents that go on. The others that the file has as open end: no memory of them is left.
    fn open_incidents(&mut self, origin: &Origin) -> Vec<Timeline> {
        let remembered = self.memories.iter().flat_map(|(_, memory)| memory.incidents());
        let known: BTreeSet<String> = remembered.map(|open| origin.incident_id(open.incident.id)).collect();
        let all = std::mem::take(&mut self.remembered.open);
        let (open, lost): (Vec<Timeline>, _) = all.into_iter().partition(|it| known.contains(it.id()));
        for (mut timeline, store) in lost.into_iter().zip(std::iter::repeat(&self.store)) {
            timeline.end(jiff::Timestamp::now());
            store.iter().for_each(|store| store.keep_incident(timeline.clone()));
        }
        open
    }
}

/// Opens the event stream, publishes the start, and runs the self-test.
pub(super) async fn announce(
    config: &Config,
    options: &RunOptions,
    directory: Option<StateDirectory>,
    attached: &mut Attached,
) -> Result<Announced, RunError> {
    let child = self_test::start();
    let origin = Origin::read("/proc".as_ref());
    let mut state = directory.map(|directory| open_state(directory, &config.state, &origin));
    let mut names = Names::of(config);
    if let Some(state) = &mut state {
        names = names.with_removed(removed_services(config, &names, &state.remembered));
        state.memories = state.remembered.take_memories(&names, &origin);
    }
    let outputs = open_outputs(&config.events, config.event_files).await?;
    let mut emitter = Emitter::new(origin.clone(), names.clone(), outputs);
    let spool = config.fleet.as_ref().and_then(|fleet| open_spool(fleet, &config.state, &mut emitter));
    let (views, view) = watch::channel(Arc::default());
    let coverage = attached.sensors.coverage().to_vec();
    let start = Timestamp::now();
    let recording = state.as_ref().and_then(|_| record(config, options.observe, &origin, &names, start));
    let store = state.as_ref().and_then(|state| state.store.clone());
    let mut publisher = Publisher::new(emitter, origin.clone(), (recording, store), coverage, views);
    let config_file = options.config_file.as_ref().map(|file| file.display().to_string());
    let engine =
        Engine::new(&config.services, options.observe, start).with_restart_budget(config.restart_budget);
    publisher.publish(Fact::AgentStart(AgentStart { config_file }), start);
    if let Some(state) = &mut state {
        publisher.remember_incidents(state.open_incidents(&origin));
    }
    let mut seen = Vec::new();
    let self_test = self_test::run(child, &mut attached.sensors, &attached.reader, &mut seen).await;
    Ok(Announced { origin, names, publisher, state, view, engine, seen, self_test, spool })
}

/// The services that an earlier run knew, and the configuration does not have any more. Their ids follow those of the
/// configuration.
fn removed_services(config: &Config, names: &Names, remembered: &Remembered) -> BTreeMap<ServiceId, Name> {
    let removed = remembered.services().into_iter().filter(|name| names.find(name).is_none());
    let first = config.next_id();
    let named = |name: &str| Name { service: name.to_owned(), unit: None };
    (first..).map(ServiceId).zip(removed.map(named)).collect()
}

/// Opens the queue of events for the fleet. Without it, the stream of the fleet lacks this host's.
fn open_spool(fleet: &Fleet, state: &StateOptions, emitter: &mut Emitter) -> Option<spool::Reader> {
    let opened = spool::open(&state.directory, fleet.spool).and_then(|(writer, reader)| {
        let sink = Sink::spawn(writer, QueueLimits::default()).map_err(|error| error.to_string())?;
        emitter.add_lasting(sink);
        Ok(reader)
    });
    opened.inspect_err(|why| tracing::error!("fleet: no events are sent: {why}")).ok()
}

/// Opens the store. If its file system does not answer, the daemon runs without it.
fn open_state(directory: StateDirectory, options: &StateOptions, origin: &Origin) -> State {
    match StateStore::open(options, origin) {
        Ok((store, remembered)) => State { directory, store: Some(store), remembered, memories: Vec::new() },
        Err(error) => {
            tracing::error!(
                "{}: state cannot be opened: {error}; it forgets operators' stops and pauses, incidents and alerts when it ends",
                options.directory.display()
            );
            State { directory, store: None, remembered: Remembered::default(), memories: Vec::new() }
        }
    }
}

/// Starts the recording. If its folder is not writable, the daemon runs without it.
fn record(
    config: &Config,
    observe: bool,
    origin: &Origin,
    names: &Names,
    start: Timestamp,
) -> Option<Recording> {
    let opened = Recording::open(config, observe, origin, names, start);
    opened.inspect_err(|error| tracing::warn!("{error}")).ok().flatten()
}
