//! One engine: its socket, and what its containers were last.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    error::EngineError,
    model::{Description, Listed},
    requests::Requests,
    socket::{Lines, PATIENCE, Socket},
    state::{self, Reading},
};
use crate::{
    clock::Timestamp,
    fact::{COMPOSE_PROJECT, ContainerEngine, UnitState},
    host::ProcReader,
};

/// How long after the end of a container the request for it may show: Docker announces a stop when the container is down,
/// and Podman removes it then.
const REQUEST_SHOWS: Duration = Duration::from_millis(300);

/// How long the engine's own restart may take to begin. Docker shows its wait as a state of its own; Podman starts the
/// container within half a second.
const POLICY_SHOWS: Duration = Duration::from_secs(2);

/// The longest wait for an engine to notice that the main process of a container is gone.
const NOTICES: Duration = Duration::from_secs(10);

/// How long an engine may refuse to describe a container that it is about to remove.
const REFUSES: Duration = Duration::from_secs(2);

/// Between two reads, if no event tells of a change. It doubles with each, up to [`LONGEST_STEP`].
const STEP: Duration = Duration::from_millis(50);
const LONGEST_STEP: Duration = Duration::from_millis(400);

/// How much longer than the stop of a container its restart may take.
const START: Duration = Duration::from_secs(60);

/// What the engines call themselves in the header `Server`.
const PRODUCTS: [(&str, ContainerEngine); 2] =
    [("Docker", ContainerEngine::Docker), ("Libpod", ContainerEngine::Podman)];

/// The most containers of which a state is kept.
const KEPT_MAX: usize = 4096;

/// An engine's API, and what is known of its containers.
#[derive(Debug)]
pub(super) struct Engine {
    socket: Socket,
    /// By its own word, or by the key of its socket.
    kind: Mutex<ContainerEngine>,
    reader: ProcReader,
    requests: Mutex<Requests>,
    /// What was last read of each container, by its name.
    last: Mutex<HashMap<String, Reading>>,
    /// Counts the events, so that a wait ends with the next.
    events: watch::Sender<u64>,
    /// Since when the stream of events is read; None while it is not.
    listens_since: Mutex<Option<Instant>>,
}

impl Engine {
    pub(super) fn new(kind: ContainerEngine, socket: &Path, reader: ProcReader) -> Self {
        Self {
            socket: Socket::new(socket),
            kind: Mutex::new(kind),
            reader,
            requests: Mutex::default(),
            last: Mutex::default(),
            events: watch::Sender::new(0),
            listens_since: Mutex::default(),
        }
    }

    pub(super) fn kind(&self) -> ContainerEngine {
        *self.kind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn path(&self) -> &Path {
        self.socket.path()
    }

    /// Asks the engine what it is. Podman may answer at Docker's socket. Returns its version.
    pub(super) async fn identify(&self) -> Result<String, EngineError> {
        // Not /version: for that, Podman asks rpm and dpkg which packages its programs are from, which takes seconds.
        let product = self.socket.product("/_ping").await?;
        let (name, version) = product.split_once('/').unwrap_or((&product, ""));
        let known = PRODUCTS.into_iter().find(|(product, _)| *product == name);
        // Behind a proxy, the key of the socket tells.
        if let Some((_, kind)) = known {
            *self.kind.lock().unwrap_or_else(PoisonError::into_inner) = kind;
        }
        Ok(super::model::bounded(version, 64))
    }

    /// The stream of events since a moment.
    pub(super) async fn events(&self, since: jiff::Timestamp) -> Result<Lines, EngineError> {
        self.socket.lines(&format!("/events?since={}", since.as_second())).await
    }

    /// The stream of events is read from now on, or is not any more.
    pub(super) fn set_listens(&self, listens: bool) {
        let since = listens.then(Instant::now);
        *self.listens_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Whether the events of the last moments have been read, those from before a lost connection too.
    fn has_caught_up(&self) -> bool {
        let since = *self.listens_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() >= REQUEST_SHOWS)
    }

    /// Takes in an event. Returns the name of the container that may have changed.
    pub(super) fn on_event(&self, line: &[u8]) -> Result<Option<String>, serde_json::Error> {
        let concerned = self.requests.lock().unwrap_or_else(PoisonError::into_inner).take(line)?;
        Ok(concerned.map(|(concerned, _)| {
            self.events.send_modify(|count| *count = count.wrapping_add(1));
            concerned.name
        }))
    }

    /// The names of the containers with a label, running or not.
    pub(super) async fn labelled(&self, label: &str) -> Result<Vec<String>, EngineError> {
        // {"label":["NAME"]}
        let filter = format!("%7B%22label%22%3A%5B%22{label}%22%5D%7D");
        let listed: Vec<Listed> =
            self.socket.get(&format!("/containers/json?all=true&filters={filter}")).await?;
        let names = listed.into_iter().filter_map(|it| it.names.into_iter().next());
        Ok(names.map(|name| name.trim_start_matches('/').to_owned()).collect())
    }

    /// A container as the engine describes it.
    pub(super) async fn describe(&self, name: &str) -> Result<Description, EngineError> {
        self.socket.get(&format!("/containers/{name}/json")).await
    }

    /// The state of a container, once what its engine does next is settled: an end is not told before the request for it
    /// or the engine's own restart has had the time to show.
    pub(super) async fn settled(&self, name: &str) -> Result<UnitState, EngineError> {
        let (began, mut step) = (Instant::now(), STEP);
        let mut changes = self.events.subscribe();
        loop {
            changes.mark_unchanged();
            let reading = match self.read(name).await {
                Ok(reading) => reading,
                Err(EngineError::NoSuchContainer) => return self.absent(name, began, &mut changes).await,
                // Podman does so while it removes the container.
                Err(EngineError::Refused { .. }) if began.elapsed() < REFUSES => {
                    let _ = timeout(step, changes.changed()).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let shows = if reading.policy_applies { POLICY_SHOWS } else { REQUEST_SHOWS };
            let ended = reading.state.main_exited.unwrap_or_default();
            let is_recent = Timestamp::now().since(ended) < shows || !self.has_caught_up();
            let is_early = reading.has_ended() && !reading.was_asked() && is_recent;
            let waits = reading.is_behind || is_early;
            if !waits || began.elapsed() > NOTICES {
                return self.with_network(reading).await;
            }
            let _ = timeout(step, changes.changed()).await;
            step = (step * 2).min(LONGEST_STEP);
        }
    }

    /// It does not have the container. One that takes its place may follow.
    async fn absent(
        &self,
        name: &str,
        began: Instant,
        changes: &mut watch::Receiver<u64>,
    ) -> Result<UnitState, EngineError> {
        let before = self.last.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        while before.is_some() && began.elapsed() < REQUEST_SHOWS {
            let _ = timeout(STEP, changes.changed()).await;
            match self.read(name).await {
                Err(EngineError::NoSuchContainer | EngineError::Refused { .. }) => {}
                Err(error) => return Err(error),
                Ok(reading) => return self.with_network(reading).await,
            }
        }
        if before.is_none() {
            return Err(EngineError::NoSuchContainer);
        }
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(state::absent(name, self.kind(), before.as_ref(), &requests))
    }

    /// The state of a container that no engine has.
    pub(super) fn unknown(&self, name: &str) -> UnitState {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        state::absent(name, self.kind(), None, &requests)
    }

    async fn read(&self, name: &str) -> Result<Reading, EngineError> {
        let described = self.describe(name).await?;
        let (kind, reader) = (self.kind(), self.reader.clone());
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = state::read(&described, kind, &requests, &reader);
        if reading.state.active == "deactivating" {
            let project = reading.state.container.as_ref().and_then(|it| it.label(COMPOSE_PROJECT));
            let project = project.map(str::to_owned);
            requests.note_stop(name, project);
        }
        drop(requests);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= KEPT_MAX && !last.contains_key(name) {
            last.clear();
        }
        last.insert(name.to_owned(), reading.clone());
        Ok(reading)
    }

    /// Compares its network namespace with that of the container that it shares it with.
    async fn with_network(&self, mut reading: Reading) -> Result<UnitState, EngineError> {
        if let (Some(other), Some(main)) = (reading.network_of.take(), reading.state.main)
            && let Ok(owner) = self.describe(&other).await
            && let Some(container) = &mut reading.state.container
        {
            let owner_name = owner.name.trim_start_matches('/');
            container.network_of = Some(super::model::bounded(owner_name, super::model::TEXT_MAX));
            let of_owner = self.reader.network_namespace(owner.state.pid);
            let own = self.reader.network_namespace(main.pid);
            let runs = owner.state.status == "running";
            container.network_lost = runs && own.zip(of_owner).is_some_and(|(own, its)| own != its);
        }
        Ok(reading.state)
    }

    /// Starts a container again, or for the first time.
    pub(super) async fn restart(&self, name: &str) -> Result<(), EngineError> {
        let patience = self.stop_time(name).await? + START;
        self.socket.post(&format!("/containers/{name}/restart"), patience).await
    }

    pub(super) async fn stop(&self, name: &str) -> Result<(), EngineError> {
        let patience = self.stop_time(name).await? + PATIENCE;
        self.socket.post(&format!("/containers/{name}/stop"), patience).await
    }

    async fn stop_time(&self, name: &str) -> Result<Duration, EngineError> {
        let reading = self.read(name).await?;
        Ok(reading.state.stop_timeout.unwrap_or_default())
    }

    /// The last lines that a container wrote, as the engine sends them.
    pub(super) async fn last_output(
        &self,
        name: &str,
        lines: usize,
        most: usize,
    ) -> Result<Vec<u8>, EngineError> {
        let path = format!("/containers/{name}/logs?stdout=true&stderr=true&tail={lines}");
        self.socket.first_bytes(&path, most).await
    }
}
