//! The outbox that the alerter fills and a receiver's task empties.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{
    channel::Channel,
    kept::Keeper,
    notification::Alert,
    outbox::{Message, Outbox},
};
use crate::fact::{AlertSilence, IncidentId};

#[derive(Debug)]
pub(super) struct SharedOutbox {
    outbox: Mutex<Outbox>,
    /// The way to the receiver, which a reload may replace.
    channel: Mutex<Arc<Channel>>,
    /// Wakes the receiver's task.
    pub(super) filled: Notify,
    /// The receiver over restarts of the daemon.
    pub(super) identity: String,
    keeper: Option<Arc<dyn Keeper>>,
}

impl SharedOutbox {
    pub(super) fn new(
        outbox: Outbox,
        channel: Arc<Channel>,
        identity: String,
        keeper: Option<Arc<dyn Keeper>>,
    ) -> Self {
        let (outbox, channel) = (Mutex::new(outbox), Mutex::new(channel));
        Self { outbox, channel, filled: Notify::new(), identity, keeper }
    }

    pub(super) fn channel(&self) -> Arc<Channel> {
        Arc::clone(&self.channel.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_channel(&self, channel: Arc<Channel>) {
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = channel;
    }

    pub(super) fn put(&self, alert: Alert) {
        if self.lock().put(alert) {
            self.filled.notify_one();
        }
        self.keep();
    }

    pub(super) fn silence(&self, incident: IncidentId, silence: Option<AlertSilence>) {
        if self.lock().silence(incident, silence) {
            self.filled.notify_one();
        }
        self.keep();
    }

    pub(super) fn retire(&self, retired: bool) {
        self.lock().retire(retired);
        self.keep();
    }

    pub(super) fn delivered(&self, message: Message, posted: Option<String>) {
        self.lock().delivered(message, posted);
        self.keep();
    }

    /// Has what changed in the outbox written.
    pub(super) fn keep(&self) {
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
