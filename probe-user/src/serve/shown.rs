//! What HTTP and the control socket answer from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{history::History, metrics::Metrics, status::Status, view::View};
use crate::emit::Origin;

/// The data behind the HTTP pages and the control socket.
#[derive(Clone)]
pub struct Shown {
    /// The origin of the events.
    pub origin: Arc<Origin>,
    /// The services as last published.
    pub view: watch::Receiver<Arc<View>>,
    /// What was counted and measured.
    pub metrics: Arc<Metrics>,
    /// The latest incidents.
    pub history: Arc<Mutex<History>>,
}

impl Shown {
    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        // It stays usable if a thread panicked: each event is taken in whole or not at all.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> Status {
        let view = Arc::clone(&self.view.borrow());
        Status::of(&view, &self.origin, &self.history())
    }
}
