//! The outbox that the alerter fills and a receiver's task empties.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{notification::Alert, outbox::Outbox};

#[derive(Debug)]
pub(super) struct SharedOutbox {
    outbox: Mutex<Outbox>,
    /// Wakes the receiver's task.
    pub(super) filled: Notify,
}

impl SharedOutbox {
    pub(super) fn new(outbox: Outbox) -> Self {
        Self { outbox: Mutex::new(outbox), filled: Notify::new() }
    }

    pub(super) fn put(&self, alert: Alert) {
        if self.lock().put(alert) {
            self.filled.notify_one();
        }
    }

    /// The outbox stays usable if a task panicked: each of its changes is whole.
    pub(super) fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
