//! Alerts about incidents, off the detection path.
//!
//! Each receiver has an outbox and a task that empties it, so a receiver that is down does not delay the others.
//! [`Alerter::notify`] only fills the outboxes. [`outbox`] decides, without I/O, what to deliver and what to drop.
//! `format` writes an alert in its receiver's format, and `channel` sends it.

mod channel;
mod client;
mod error;
pub(in crate::act) mod format;
mod kept;
mod notification;
pub mod outbox;
mod own_thread;
mod pace;
mod reach;
mod receiver;
pub(in crate::act) mod request;
mod shared;
mod smtp;
mod test;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
};

use self::{
    channel::Channel,
    outbox::{CAPACITY, Outbox},
    receiver::Receiver,
    shared::SharedOutbox,
};
use crate::{
    config::AlertReceiver,
    emit::Origin,
    fact::{AlertOutcome, AlertSilence, IncidentId},
};
use kept::identity;

pub use client::client;
pub use error::AlertError;
pub use kept::{Change, Delivery, Keeper, Kept, KeptAlert};
pub use notification::{Alert, Notification};
pub use pace::Pace;
pub use reach::{Reach, reach};

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
    config: AlertReceiver,
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
        let (mut prepared, mut kept) = (Vec::new(), Vec::new());
        let mut identities: Vec<String> = Vec::new();
        for config in receivers {
            let mut places = (0..).map(|place| identity(config, place));
            // There are more places than receivers.
            let Some(identity) = places.find(|identity| !identities.contains(identity)) else { break };
            identities.push(identity.clone());
            let known = before.iter().position(|running| running.shared.identity == identity);
            let ready = self.channel(config).map(|channel| match known {
                Some(at) => {
                    self.receivers.push(before.remove(at));
                    kept.push((self.receivers.len() - 1, config.clone(), channel));
                }
                None => {
                    let (shared, receiver) = self.prepare(config, channel, identity);
                    prepared.push((config.clone(), shared, receiver));
                }
            });
            if let Err(error) = ready {
                // All stay as they were.
                self.receivers.append(&mut before);
                self.retired = self.receivers.extract_if(.., |it| it.shared.lock().is_retired()).collect();
                return Err(error);
            }
        }
        for (at, config, channel) in kept {
            let Some(running) = self.receivers.get_mut(at) else { continue };
            running.shared.retire(false);
            running.shared.lock().set_route(config.route.clone());
            running.shared.set_channel(channel);
            running.shared.filled.notify_one();
            running.config = config;
        }
        for (config, shared, receiver) in prepared {
            let task = self.tasks.spawn(receiver.run());
            self.receivers.push(Running { config, shared, task });
        }
        for running in &before {
            running.shared.retire(true);
            running.shared.filled.notify_one();
        }
        let surplus = before.len().saturating_sub(MOST_RETIRED);
        // The latest came first.
        before.drain(before.len() - surplus..).for_each(|running| running.task.abort());
        self.retired = before;
        while self.tasks.try_join_next().is_some() {}
        Ok(())
    }

    /// The way to a receiver.
    fn channel(&self, config: &AlertReceiver) -> Result<Arc<Channel>, AlertError> {
        Channel::new(config, &self.origin, self.page.as_deref(), self.pace.timeout).map(Arc::new)
    }

    fn prepare(
        &mut self,
        config: &AlertReceiver,
        channel: Arc<Channel>,
        identity: String,
    ) -> (Arc<SharedOutbox>, Receiver) {
        let mut outbox = Outbox::new(config.route.clone(), channel.shows_silence(), CAPACITY);
        outbox.restore(self.kept.alerts.remove(&identity).unwrap_or_default());
        let shared = Arc::new(SharedOutbox::new(outbox, channel, identity, self.kept.keeper.clone()));
        let receiver = Receiver {
            pace: self.pace,
            shared: Arc::clone(&shared),
            outcomes: self.outcomes.clone(),
            closing: self.closing.subscribe(),
        };
        (shared, receiver)
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

    /// Holds back what receivers are yet to be told of an incident; None ends that. Never waits.
    pub fn silence(&self, incident: IncidentId, silence: Option<&AlertSilence>) {
        for shared in self.outboxes() {
            shared.silence(incident, silence.cloned());
        }
    }

    /// The undelivered alerts of each receiver.
    pub fn waiting_by_receiver(&self) -> Vec<(String, u64)> {
        let waiting =
            |shared: &Arc<SharedOutbox>| (shared.channel().name.clone(), shared.lock().waiting() as u64);
        self.outboxes().map(waiting).collect()
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
