//! The second phase of the start: the event stream opens, and the self-test proves that the sensors report an exit.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    attach::Attached,
    options::{RunError, RunOptions},
};
use crate::{
    clock::Timestamp,
    config::{Config, StateOptions},
    daemon::publisher::Publisher,
    emit::{Emitter, Names, Origin, open_output},
    engine::Engine,
    fact::{AgentStart, Fact, Orders},
    process::self_test,
    sensor::record::Record,
    serve::View,
    store::{directory::StateDirectory, recording::Recording, state::StateStore},
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
}

/// The state that outlives the daemon.
pub(super) struct State {
    /// Keeps other daemons off the directory.
    pub(super) directory: StateDirectory,
    pub(super) store: Option<StateStore>,
    /// The orders in force, by service.
    pub(super) remembered: BTreeMap<String, Orders>,
}

/// Opens the event stream, publishes the start, and runs the self-test.
pub(super) async fn announce(
    config: &Config,
    options: &RunOptions,
    directory: Option<StateDirectory>,
    attached: &mut Attached,
) -> Result<Announced, RunError> {
    let origin = Origin::read("/proc".as_ref());
    let names = Names::of(config);
    let emitter = Emitter::new(origin.clone(), names.clone(), vec![open_output(&config.events).await?]);
    let (views, view) = watch::channel(Arc::default());
    let coverage = attached.sensors.coverage().to_vec();
    let start = Timestamp::now();
    let recording = directory.as_ref().and_then(|_| record(config, options.observe, &origin, &names, start));
    let state = directory.map(|directory| open_state(directory, &config.state));
    let store = state.as_ref().and_then(|state| state.store.clone());
    let mut publisher = Publisher::new(emitter, origin.clone(), (recording, store), coverage, views);
    let config_file = options.config_file.as_ref().map(|file| file.display().to_string());
    let engine = Engine::new(&config.services, options.observe, start);
    publisher.publish(Fact::AgentStart(AgentStart { config_file }), start);
    let mut seen = Vec::new();
    let self_test = self_test::run(&mut attached.sensors, &attached.reader, &mut seen).await;
    Ok(Announced { origin, names, publisher, state, view, engine, seen, self_test })
}

/// Opens the store. If its file system does not answer, the daemon runs without it.
fn open_state(directory: StateDirectory, options: &StateOptions) -> State {
    match StateStore::open(options) {
        Ok((store, remembered)) => State { directory, store: Some(store), remembered },
        Err(error) => {
            tracing::error!(
                "{}: state cannot be opened: {error}; operators' stops and pauses and incidents end with the daemon",
                options.directory.display()
            );
            State { directory, store: None, remembered: BTreeMap::new() }
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
    let opened = Recording::open(&config.state, &config.services, observe, origin, names, start);
    opened.inspect_err(|error| tracing::warn!("{error}")).ok().flatten()
}
