//! Container engines over their API: reads containers, restarts and stops them.
//!
//! Docker's API is spoken by Podman as well. A hung engine costs a caller a few seconds, and its flood of events no more
//! than a share of one CPU. The engine's own restart policy is respected as systemd's `Restart=` is: a container's state
//! has the form of a unit's, [`crate::fact::UnitState`], and the same rules judge it.

mod engine;
mod error;
mod labels;
mod logs;
mod model;
mod requests;
mod socket;
mod state;
mod watch;

use std::{path::PathBuf, sync::Arc};

use self::engine::Engine;
pub use self::{
    error::EngineError,
    labels::{add_labelled, labelled},
};
use crate::{
    config::{Container, ContainerOptions},
    fact::{ContainerEngine, UnitState},
    host::ProcReader,
};

/// The engines of this host.
#[derive(Clone, Debug)]
pub struct Containers {
    engines: Vec<Arc<Engine>>,
}

/// What answers at an engine's socket.
#[derive(Debug)]
pub struct Answers {
    pub socket: PathBuf,
    /// The engine, and its version.
    pub engine: Result<(ContainerEngine, String), EngineError>,
}

impl Containers {
    pub fn new(options: &ContainerOptions, reader: &ProcReader) -> Self {
        let sockets = options.sockets().into_iter();
        Self {
            engines: sockets.map(|(kind, path)| Arc::new(Engine::new(kind, path, reader.clone()))).collect(),
        }
    }

    /// Asks each engine what it is.
    pub async fn identify(&self) -> Vec<Answers> {
        let mut answers = Vec::new();
        for engine in &self.engines {
            let version = engine.identify().await;
            let engine_is = version.map(|version| (engine.kind(), version));
            answers.push(Answers { socket: engine.path().to_owned(), engine: engine_is });
        }
        answers
    }

    /// The state of a container, settled: see `Engine::settled`.
    pub async fn state(&self, container: &Container) -> Result<UnitState, EngineError> {
        let mut absent = None;
        let mut errors = Vec::new();
        for engine in self.engines_of(container) {
            match engine.settled(&container.name).await {
                Ok(state) => return Ok(state),
                Err(error) if error.is_absence() => absent = absent.or(Some(engine)),
                Err(error) => errors.push(error),
            }
        }
        match (absent, errors.len()) {
            // An engine that does not answer may have it.
            (Some(engine), 0) => Ok(engine.unknown(&container.name)),
            (Some(engine), _) if container.engine.is_none() && errors.iter().all(is_missing) => {
                Ok(engine.unknown(&container.name))
            }
            (None, 0) => Err(EngineError::NoSocket),
            (_, _) => Err(no_engine(errors)),
        }
    }

    /// Restarts a container, or starts it if it is down; returns once the engine has done that.
    pub async fn restart(&self, container: &Container) -> Result<(), EngineError> {
        self.of(container).await?.restart(&container.name).await
    }

    /// Stops a container; returns once it is down.
    pub async fn stop(&self, container: &Container) -> Result<(), EngineError> {
        self.of(container).await?.stop(&container.name).await
    }

    /// The last lines that a container wrote: at most 20, and 4 KiB.
    pub async fn last_lines(&self, container: &Container) -> Result<Vec<String>, EngineError> {
        logs::last_lines(self.of(container).await?, &container.name).await
    }

    /// The engine that has a container.
    async fn of(&self, container: &Container) -> Result<&Arc<Engine>, EngineError> {
        let mut errors = Vec::new();
        let mut is_absent = false;
        for engine in self.engines_of(container) {
            match engine.describe(&container.name).await {
                Ok(_) => return Ok(engine),
                Err(error) if error.is_absence() => is_absent = true,
                Err(error) => errors.push(error),
            }
        }
        match errors.is_empty() {
            _ if is_absent => Err(EngineError::NoSuchContainer),
            true => Err(EngineError::NoSocket),
            false => Err(no_engine(errors)),
        }
    }

    /// The engines that may have a container.
    fn engines_of(&self, container: &Container) -> impl Iterator<Item = &Arc<Engine>> {
        let wanted = container.engine;
        // With one socket, its key need not be that of the engine that answers there.
        self.engines.iter().filter(move |engine| wanted.is_none_or(|wanted| engine.kind() == wanted))
    }
}

/// Whether there is no such engine on this host.
fn is_missing(error: &EngineError) -> bool {
    matches!(error, EngineError::Unreachable { .. })
}

fn no_engine(errors: Vec<EngineError>) -> EngineError {
    let words: Vec<String> = errors.iter().map(ToString::to_string).collect();
    EngineError::NoEngine(words.join("; "))
}
