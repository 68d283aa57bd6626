//! The outbox that the alerter fills and a receiver's task empties.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{
    channel::Channel,
    kept::Keeper,
    notification::Alert,
    outbox::{Message, Outbox},
};
use crate::{
    fact::{AlertSilence, IncidentId},
    progress::Awaited,
};

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
    /// What is to be kept before the receiver gets the next message.
    kept: Mutex<Option<Awaited>>,
}

impl SharedOutbox {
    pub(super) fn new(
        outbox: Outbox,
        channel: Arc<Channel>,
        identity: String,
        keeper: Option<Arc<dyn Keeper>>,
    ) -> Self {
        let (outbox, channel) = (Mutex::new(outbox), Mutex::new(channel));
        Self { outbox, channel, filled: Notify::new(), identity, keeper, kept: Mutex::default() }
    }

    pub(super) fn channel(&self) -> Arc<Channel> {
        Arc::clone(&self.channel.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_channel(&self, channel: Arc<Channel>) {
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = channel;
    }

    pub(super) fn put(&self, alert: Alert) {
        let fills = self.lock().put(alert);
        self.keep();
        if fills {
            self.filled.notify_one();
        }
    }

    pub(super) fn silence(&self, incident: IncidentId, silence: Option<AlertSilence>) {
        let fills = self.lock().silence(incident, silence);
        self.keep();
        if fills {
            self.filled.notify_one();
        }
    }

    pub(super) fn retire(&self, retired: bool) {
        self.lock().retire(retired);
        self.keep();
    }

    pub(super) fn delivered(&self, message: Message, posted: Option<String>) {
        self.lock().delivered(message, posted);
        // The next message does not wait for this.
        let _ = self.keep_changes();
    }

    /// Has what changed in the outbox written. The next message waits for it.
    pub(super) fn keep(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(awaited) = self.keep_changes() {
            *kept = Some(awaited);
        }
    }

    fn keep_changes(&self) -> Option<Awaited> {
        let changes = self.lock().take_changes();
        let keeper = self.keeper.as_ref().filter(|_| !changes.is_empty())?;
        keeper.keep(&self.identity, changes)
    }

    /// Waits until a later run of the daemon would know what the receiver is to be told, or for long enough.
    pub(super) async fn until_kept(&self) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(kept) = kept {
            kept.done().await;
        }
    }

    /// The outbox stays usable if a task panicked: each of its changes is whole.
    pub(super) fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
