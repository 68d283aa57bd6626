//! Alerts: tells receivers of incidents, off the detection path.
//!
//! Each receiver has an outbox of its own and a task that empties it, so that one that is down delays nobody else.
//! [`Alerter::notify`] only puts into outboxes. What may be put and what is given up is decided in [`outbox`],
//! without I/O; how an alert looks to its receiver is in `format`.

mod client;
mod format;
pub mod outbox;
mod receiver;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
};

use self::{outbox::Outbox, receiver::Receiver};
use crate::{
    config::AlertReceiver,
    emit::{Names, Origin},
    fact::{AlertOutcome, Incident},
};

pub use client::client;

/// How many alerts may wait for one receiver.
pub const CAPACITY: usize = 1000;

/// An alert: an incident is on, or over.
#[derive(Clone, Debug)]
pub struct Alert {
    /// The incident as it is now.
    pub incident: Incident,
    /// What services are called in the configuration it belongs to.
    pub names: Names,
    /// True if it is over.
    pub resolved: bool,
}

/// A receiver could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    /// The webhook is not a URL to post to.
    #[error("the alert webhook {webhook} is not a URL: {reason}; it has to be like https://host/path")]
    Webhook {
        /// The webhook without its secrets.
        webhook: String,
        /// Why.
        reason: String,
    },
    /// The HTTP client could not be made.
    #[error("no client for alerts to {receiver}: {reason}; are the system's CA certificates installed?")]
    Client {
        /// Scheme and host.
        receiver: String,
        /// Why.
        reason: String,
    },
}

/// How long deliveries wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// One request, from connect to answer.
    pub timeout: Duration,
    /// Before the second try; doubles with each…
    pub first_retry: Duration,
    /// … up to this.
    pub longest_retry: Duration,
    /// Between two reminders of what is still on, to receivers that forget (Alertmanager).
    pub refresh: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            first_retry: Duration::from_secs(1),
            longest_retry: Duration::from_secs(60),
            refresh: Duration::from_secs(60),
        }
    }
}

/// Tells receivers of incidents.
#[derive(Debug)]
pub struct Alerter {
    outboxes: Vec<Arc<Shared>>,
    tasks: JoinSet<()>,
    closing: watch::Sender<bool>,
}

/// What [`Alerter::notify`] and a receiver's task share.
#[derive(Debug)]
struct Shared {
    outbox: Mutex<Outbox>,
    filled: Notify,
}

impl Shared {
    /// The outbox stays usable if a task panicked: each of its changes is whole.
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Alerter {
    /// Starts a task for each receiver, on the current tokio runtime. How deliveries go is reported to `outcomes`.
    /// `page` is the daemon's own address for people, such as `http://127.0.0.1:9464/`, where it has one.
    pub fn spawn(
        receivers: &[AlertReceiver],
        origin: &Origin,
        page: Option<&str>,
        outcomes: mpsc::Sender<AlertOutcome>,
    ) -> Result<Self, AlertError> {
        Self::with_pace(receivers, origin, page, outcomes, Pace::default())
    }

    /// The same at another pace.
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
            let shared = Arc::new(Shared {
                outbox: Mutex::new(Outbox::new(config.min_severity, CAPACITY)),
                filled: Notify::new(),
            });
            let look =
                format::Look { format: config.format, origin: origin.clone(), page: page.map(str::to_owned) };
            let receiver = Receiver::new(
                &config.webhook,
                look,
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

    /// Puts an alert into each receiver's outbox that is to have it. Never waits.
    pub fn notify(&self, alert: Alert) {
        for shared in &self.outboxes {
            if shared.outbox().put(alert.clone()) {
                shared.filled.notify_one();
            }
        }
    }

    /// How many alerts wait to be delivered, for all receivers together.
    pub fn waiting(&self) -> usize {
        self.outboxes.iter().map(|shared| shared.outbox().waiting()).sum()
    }

    /// How many alerts were given up because an outbox was full.
    pub fn dropped(&self) -> u64 {
        self.outboxes.iter().map(|shared| shared.outbox().dropped()).sum()
    }

    /// Gives each waiting alert one more try, for at most `patience`, and returns how many are left undelivered.
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
