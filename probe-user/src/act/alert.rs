//! Alerts about incidents, off the detection path.
//!
//! Each receiver has an outbox and a task that empties it, so a receiver that is down does not delay the others.
//! [`Alerter::notify`] only fills the outboxes. [`outbox`] decides, without I/O, what to deliver and what to drop.
//! `format` writes an alert in its receiver's format.

mod client;
mod error;
mod format;
mod kept;
mod notification;
pub mod outbox;
mod pace;
mod receiver;
mod request;
mod shared;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
};

use self::{
    format::Formatter,
    outbox::{CAPACITY, Outbox},
    receiver::Receiver,
    shared::SharedOutbox,
};
use crate::{
    config::AlertReceiver,
    emit::Origin,
    fact::{AlertOutcome, IncidentId},
};
use kept::identity;

pub use client::client;
pub use error::AlertError;
pub use kept::{Change, Delivery, Keeper, Kept, KeptAlert};
pub use notification::{Alert, Notification};
pub use pace::Pace;

/// How many receivers that a reload removed may still have an open incident, the latest.
const MOST_RETIRED: usize = 16;

/// Delivers alerts to all receivers.
#[derive(Debug)]
pub struct Alerter {
    receivers: Vec<Running>,
    /// Receivers that a reload removed. They still get the ends of the incidents that they know.
    retired: Vec<Running>,
    tasks: JoinSet<()>,
    closing: watch::Sender<bool>,
    origin: Origin,
    page: Option<String>,
    outcomes: mpsc::Sender<AlertOutcome>,
    pace: Pace,
    kept: Kept,
}

/// A receiver with its task.
#[derive(Debug)]
struct Running {
    shared: Arc<SharedOutbox>,
    task: AbortHandle,
}

impl Alerter {
    /// Starts a task for each receiver on the current tokio runtime. The tasks report the results of deliveries to
    /// `outcomes`. `page` is the daemon's address for people, such as `http://127.0.0.1:9464/`.
    pub fn spawn(
        receivers: &[AlertReceiver],
        origin: &Origin,
        page: Option<&str>,
        outcomes: mpsc::Sender<AlertOutcome>,
        kept: Kept,
    ) -> Result<Self, AlertError> {
        Self::with_pace(receivers, origin, page, outcomes, kept, Pace::default())
    }

    /// [`Self::spawn`] at another pace.
    pub fn with_pace(
        receivers: &[AlertReceiver],
        origin: &Origin,
        page: Option<&str>,
        outcomes: mpsc::Sender<AlertOutcome>,
        kept: Kept,
        pace: Pace,
    ) -> Result<Self, AlertError> {
        let mut alerter = Self {
            receivers: Vec::new(),
            retired: Vec::new(),
            tasks: JoinSet::new(),
            closing: watch::channel(false).0,
            origin: origin.clone(),
            page: page.map(str::to_owned),
            outcomes,
            pace,
            kept,
        };
        alerter.configure(receivers)?;
        alerter.forget_others();
        Ok(alerter)
    }

    /// What an earlier run left for receivers that are not configured any more can reach none: their addresses are secrets,
    /// which are kept nowhere.
    fn forget_others(&mut self) {
        for (receiver, alerts) in std::mem::take(&mut self.kept.alerts) {
            tracing::warn!(
                "alerts: {} of an earlier run are dropped, because their receiver is not configured any more",
                alerts.len()
            );
            if let Some(keeper) = &self.kept.keeper {
                keeper.keep(&receiver, alerts.iter().map(|alert| Change::Remove(alert.number)).collect());
            }
        }
    }

    /// Ends what receivers take for open, and is not: the memory of these incidents was lost.
    pub fn end_unknown(&self, is_open: impl Fn(IncidentId) -> bool) {
        for shared in self.outboxes() {
            let unknown: Vec<Alert> =
                shared.lock().open().filter(|alert| !is_open(alert.incident.id)).cloned().collect();
            for alert in unknown {
                shared.put(Alert { resolved: true, ..alert });
            }
        }
    }

    /// Delivers the alerts of new incidents to these receivers from now on. Those that stay keep their outbox. One that
    /// goes gets the ends of the incidents that it knows, so that none fires there for ever.
    pub fn configure(&mut self, receivers: &[AlertReceiver]) -> Result<(), AlertError> {
        let mut before: Vec<Running> = Vec::new();
        std::mem::swap(&mut before, &mut self.receivers);
        before.append(&mut self.retired);
        before.retain(|running| !running.task.is_finished());
        let (mut prepared, mut severities) = (Vec::new(), Vec::new());
        let mut identities: Vec<String> = Vec::new();
        for config in receivers {
            let mut places = (0..).map(|place| identity(config, place));
            // There are more places than receivers.
            let Some(identity) = places.find(|identity| !identities.contains(identity)) else { break };
            identities.push(identity.clone());
            match before.iter().position(|running| running.shared.identity == identity) {
                Some(at) => {
                    let running = before.remove(at);
                    severities.push((Arc::clone(&running.shared), config.min_severity));
                    self.receivers.push(running);
                }
                None => match self.prepare(config, identity) {
                    Ok(receiver) => prepared.push(receiver),
                    Err(error) => {
                        // All stay as they were.
                        self.receivers.append(&mut before);
                        self.retired =
                            self.receivers.extract_if(.., |it| it.shared.lock().is_retired()).collect();
                        return Err(error);
                    }
                },
            }
        }
        for running in &self.receivers {
            running.shared.lock().retire(false);
        }
        for (shared, min_severity) in severities {
            shared.lock().set_min_severity(min_severity);
        }
        for (shared, receiver) in prepared {
            let task = self.tasks.spawn(receiver.run());
            self.receivers.push(Running { shared, task });
        }
        for running in &before {
            running.shared.lock().retire(true);
            running.shared.filled.notify_one();
        }
        let surplus = before.len().saturating_sub(MOST_RETIRED);
        // The latest came first.
        before.drain(before.len() - surplus..).for_each(|running| running.task.abort());
        self.retired = before;
        while self.tasks.try_join_next().is_some() {}
        Ok(())
    }

    fn prepare(
        &mut self,
        config: &AlertReceiver,
        identity: String,
    ) -> Result<(Arc<SharedOutbox>, Receiver), AlertError> {
        let mut outbox = Outbox::new(config.min_severity, CAPACITY);
        outbox.restore(self.kept.alerts.remove(&identity).unwrap_or_default());
        let shared = Arc::new(SharedOutbox::new(outbox, identity, self.kept.keeper.clone()));
        let formatter =
            Formatter { format: config.format, origin: self.origin.clone(), page: self.page.clone() };
        let receiver = Receiver::new(
            &config.webhook,
            formatter,
            self.pace,
            Arc::clone(&shared),
            self.outcomes.clone(),
            self.closing.subscribe(),
        )?;
        Ok((shared, receiver))
    }

    fn outboxes(&self) -> impl Iterator<Item = &Arc<SharedOutbox>> {
        self.receivers.iter().chain(&self.retired).map(|running| &running.shared)
    }

    /// Puts an alert into the outbox of each receiver that wants it. Never waits.
    pub fn notify(&self, alert: Alert) {
        for shared in self.outboxes() {
            shared.put(alert.clone());
        }
    }

    /// The undelivered alerts of all receivers.
    pub fn waiting(&self) -> usize {
        self.outboxes().map(|shared| shared.lock().waiting()).sum()
    }

    /// How many alerts were dropped because an outbox was full.
    pub fn dropped(&self) -> u64 {
        self.outboxes().map(|shared| shared.lock().dropped()).sum()
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
