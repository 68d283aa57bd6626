//! The outbox that the alerter fills and a receiver's task empties.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{
    kept::Keeper,
    notification::Alert,
    outbox::{Message, Outbox},
};

#[derive(Debug)]
pub(super) struct SharedOutbox {
    outbox: Mutex<Outbox>,
    /// Wakes the receiver's task.
    pub(super) filled: Notify,
    /// The receiver over restarts of the daemon.
    pub(super) identity: String,
    keeper: Option<Arc<dyn Keeper>>,
}

impl SharedOutbox {
    pub(super) fn new(outbox: Outbox, identity: String, keeper: Option<Arc<dyn Keeper>>) -> Self {
        Self { outbox: Mutex::new(outbox), filled: Notify::new(), identity, keeper }
    }

    pub(super) fn put(&self, alert: Alert) {
        if self.lock().put(alert) {
            self.filled.notify_one();
        }
        self.keep();
    }

    pub(super) fn delivered(&self, message: Message) {
        self.lock().delivered(message);
        self.keep();
    }

    fn keep(&self) {
        let changes = self.lock().take_changes();
        if let Some(keeper) = self.keeper.as_ref().filter(|_| !changes.is_empty()) {
            keeper.keep(&self.identity, changes);
        }
    }

    /// The outbox stays usable if a task panicked: each of its changes is whole.
    pub(super) fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
