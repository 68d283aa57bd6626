//! Alerts about incidents, off the detection path.
//!
//! Each receiver has an outbox and a task that empties it, so a receiver that is down does not delay the others.
//! [`Alerter::notify`] only fills the outboxes. [`outbox`] decides, without I/O, what to deliver and what to drop.
//! `format` writes an alert in its receiver's format.

mod client;
mod error;
mod format;
mod notification;
pub mod outbox;
mod pace;
mod receiver;
mod request;
mod shared;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use self::{
    format::Formatter,
    outbox::{CAPACITY, Outbox},
    receiver::Receiver,
    shared::SharedOutbox,
};
use crate::{config::AlertReceiver, emit::Origin, fact::AlertOutcome};

pub use client::client;
pub use error::AlertError;
pub use notification::Alert;
pub use pace::Pace;

/// Delivers alerts to all receivers.
#[derive(Debug)]
pub struct Alerter {
    outboxes: Vec<Arc<SharedOutbox>>,
    tasks: JoinSet<()>,
    closing: watch::Sender<bool>,
}

impl Alerter {
    /// Starts a task for each receiver on the current tokio runtime. The tasks report the results of deliveries to
    /// `outcomes`. `page` is the daemon's address for people, such as `http://127.0.0.1:9464/`.
    pub fn spawn(
        receivers: &[AlertReceiver],
        origin: &Origin,
        page: Option<&str>,
        outcomes: mpsc::Sender<AlertOutcome>,
    ) -> Result<Self, AlertError> {
        Self::with_pace(receivers, origin, page, outcomes, Pace::default())
    }

    /// [`Self::spawn`] at another pace.
    pub fn with_pace(
        receivers: &[AlertReceiver],
        origin: &Origin,
        page: Option<&str>,
        outcomes: mpsc::Sender<AlertOutcome>,
        pace: Pace,
    ) -> Result<Self, AlertError> {
        let (closing, closed) = watch::channel(false);
        let mut outboxes = Vec::new();
        let mut tasks = JoinSet::new();
        for config in receivers {
            let shared = Arc::new(SharedOutbox::new(Outbox::new(config.min_severity, CAPACITY)));
            let formatter =
                Formatter { format: config.format, origin: origin.clone(), page: page.map(str::to_owned) };
            let receiver = Receiver::new(
                &config.webhook,
                formatter,
                pace,
                Arc::clone(&shared),
                outcomes.clone(),
                closed.clone(),
            )?;
            tasks.spawn(receiver.run());
            outboxes.push(shared);
        }
        Ok(Self { outboxes, tasks, closing })
    }

    /// Puts an alert into the outbox of each receiver that wants it. Never waits.
    pub fn notify(&self, alert: Alert) {
        for shared in &self.outboxes {
            shared.put(alert.clone());
        }
    }

    /// The undelivered alerts of all receivers.
    pub fn waiting(&self) -> usize {
        self.outboxes.iter().map(|shared| shared.lock().waiting()).sum()
    }

    /// How many alerts were dropped because an outbox was full.
    pub fn dropped(&self) -> u64 {
        self.outboxes.iter().map(|shared| shared.lock().dropped()).sum()
    }

    /// Tries each waiting alert once more, for at most `patience`, and returns how many stay undelivered.
    pub async fn shutdown(mut self, patience: Duration) -> usize {
        let _ = self.closing.send(true);
        let done = async { while self.tasks.join_next().await.is_some() {} };
        // On a timeout the tasks end with the set they are in.
        let _ = tokio::time::timeout(patience, done).await;
        self.waiting()
    }
}

#[cfg(test)]
mod tests;
