//! The part of an outbox that outlives the daemon.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::notification::Notification;
use crate::{
    config::{AlertReceiver, Secret},
    progress::Awaited,
};

/// An alert that waits for its receiver, or the last one about an incident that is not over.
#[derive(Clone, Debug)]
pub struct KeptAlert {
    /// Unique in its outbox; the order of delivery.
    pub number: u64,
    pub notification: Notification,
    pub delivery: Delivery,
    /// The receiver's own name for what it was sent, by which that is updated.
    pub posted: Option<String>,
}

/// How far the delivery of an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// It waits for the receiver.
    Waits,
    /// The receiver has it.
    Done,
    /// A summary counts it.
    Summarised,
    /// It waits until its incident has lasted long enough.
    Deferred,
}

/// A change of an outbox.
#[derive(Clone, Debug)]
pub enum Change {
    /// In place of the alert with its number, if there is one.
    Put(Box<KeptAlert>),
    Remove(u64),
}

/// Keeps the changes of outboxes. It never waits.
pub trait Keeper: Debug + Send + Sync {
    /// `receiver` is its identity over restarts. Returns what a message that they are about waits for, if it waits.
    fn keep(&self, receiver: &str, changes: Vec<Change>) -> Option<Awaited>;
}

/// What keeps the outboxes, and what an earlier run of the daemon has left, by the identities of the receivers.
#[derive(Debug, Default)]
pub struct Kept {
    /// None without a state directory.
    pub keeper: Option<Arc<dyn Keeper>>,
    pub alerts: BTreeMap<String, Vec<KeptAlert>>,
}

/// A receiver's identity over restarts, without its secrets: what else it is set to does not change who gets the alerts.
/// Of receivers that are the same, each has a `place`, from 0.
pub(super) fn identity(receiver: &AlertReceiver, place: usize) -> String {
    let format = receiver.format.as_str();
    let to = receiver.mail.iter().flat_map(|mail| &mail.to).map(String::as_str);
    let parts = receiver.token.iter().map(Secret::expose).chain(receiver.channel.as_deref()).chain(to);
    let mut whole = receiver.address.expose().to_owned();
    parts.for_each(|part| whole = format!("{whole}\0{part}"));
    let digest = digest(&SHA256, whole.as_bytes());
    let digest: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    if place == 0 { format!("{format}-{digest}") } else { format!("{format}-{digest}-{place}") }
}
