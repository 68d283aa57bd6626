//! The incidents that the daemon's memory has no more, from the state file.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};

use crate::{
    bounded_thread,
    store::{
        history::{Explanation, Listed, NotOne},
        state::{Reader, ReaderError},
    },
};

/// The longest wait for the file. A disk that does not answer costs the older incidents.
const PATIENCE: Duration = Duration::from_secs(2);

/// Reads the state file, one answer after the other.
#[derive(Clone, Debug)]
pub struct Past {
    /// None without a state directory.
    directory: Option<PathBuf>,
    turn: Arc<Semaphore>,
}

impl Default for Past {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Past {
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self { directory, turn: Arc::new(Semaphore::new(1)) }
    }

    pub(super) async fn incidents(&self, within: Option<Duration>, service: Option<String>) -> Vec<Listed> {
        let found = self.read(move |reader| reader.incidents(within, service.as_deref())).await;
        found.unwrap_or_default()
    }

    pub(super) async fn explain(&self, which: String) -> Result<Explanation, NotOne> {
        self.read(move |reader| reader.explain(&which)).await.unwrap_or(Err(NotOne::None))
    }

    /// Reads on a thread of its own, so that a disk holds up nothing. None if that fails.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T, ReaderError> + Send + 'static,
    ) -> Option<T> {
        let directory = self.directory.clone()?;
        let turn = timeout(PATIENCE, Arc::clone(&self.turn).acquire_owned()).await.ok()?.ok()?;
        let read = bounded_thread::answer("history", PATIENCE, move || {
            // Until it has ended, no other one begins.
            let _turn = turn;
            Reader::open(&directory).and_then(|reader| work(&reader))
        });
        let why = match read.await {
            Ok(Ok(found)) => return Some(found),
            Ok(Err(error)) => error.to_string(),
            Err(error) => format!("the state file: {error}"),
        };
        tracing::debug!("{why}; the answer has the latest incidents only");
        None
    }
}
