//! What the daemon's memory has no more, from the state file: incidents, and what services did.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};

use crate::{
    bounded_thread,
    store::{
        history::{Explanation, Listed, NotOne},
        recorded_pressure::add_pressure,
        report::{Report, Uptime},
        state::{Asker, Reader, ReaderError},
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
        found.inspect_err(|why| note(why)).unwrap_or_default()
    }

    pub(super) async fn explain(&self, which: String) -> Result<Explanation, NotOne> {
        let found = self.read(move |reader| reader.explain(&which)).await;
        found.inspect_err(|why| note(why)).unwrap_or(Err(NotOne::None))
    }

    /// It with the pressure on the host then, from the recording. A disk that does not answer costs that alone.
    pub(super) async fn with_pressure(&self, explanation: Explanation) -> Explanation {
        let Some(directory) = self.directory.clone() else { return explanation };
        let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned() else { return explanation };
        let mut complete = explanation.clone();
        let read = bounded_thread::answer("recording", PATIENCE, move || {
            let _turn = turn;
            add_pressure(&mut complete, &directory);
            complete
        });
        read.await.unwrap_or(explanation)
    }

    pub(super) async fn report(&self, within: Duration, service: Option<String>) -> Result<Report, String> {
        self.read(move |reader| reader.report(within, service.as_deref(), Asker::Daemon)).await
    }

    pub(super) async fn uptime(&self, within: Duration, service: String) -> Result<Uptime, String> {
        self.read(move |reader| reader.uptime(within, &service)).await
    }

    /// Reads on a thread of its own, so that a disk holds up nothing. Fails with the reason.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T, ReaderError> + Send + 'static,
    ) -> Result<T, String> {
        let directory = self.directory.clone().ok_or("the daemon runs without a state directory")?;
        let turn = timeout(PATIENCE, Arc::clone(&self.turn).acquire_owned()).await;
        // The semaphore is never closed.
        let turn =
            turn.ok().and_then(Result::ok).ok_or("the state file: an earlier question is still under way")?;
        let read = bounded_thread::answer("history", PATIENCE, move || {
            // Until it has ended, no other one begins.
            let _turn = turn;
            Reader::open(&directory).and_then(|reader| work(&reader))
        });
        match read.await {
            Ok(found) => found.map_err(|error| error.to_string()),
            Err(error) => Err(format!("the state file: {error}")),
        }
    }
}

fn note(why: &str) {
    tracing::debug!("{why}; the answer has the latest incidents only");
}
