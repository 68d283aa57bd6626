//! A message to a receiver.

use tokio::time::Instant;

use super::super::{
    kept::{Change, Delivery, KeptAlert},
    notification::Notification,
};
use crate::fact::IncidentId;

/// A queued notification.
#[derive(Clone, Debug)]
pub struct Message {
    /// Unique in its outbox.
    pub number: u64,
    pub notification: Notification,
    /// The last delivered notification of the same incident.
    pub previous: Option<Notification>,
    /// The receiver's own name for what it was sent of the incident before.
    pub posted: Option<String>,
    /// It repeats what the receiver knows.
    pub is_reminder: bool,
    pub attempts: u32,
    /// The earliest time of the next attempt.
    pub(super) not_before: Option<Instant>,
    pub(super) in_flight: bool,
}

impl Message {
    pub(in crate::act::alert) fn new(number: u64, notification: Notification) -> Self {
        Self {
            number,
            notification,
            previous: None,
            posted: None,
            is_reminder: false,
            attempts: 0,
            not_before: None,
            in_flight: false,
        }
    }

    /// Whether it asks a person to look, and an update of an earlier message is not enough.
    pub fn asks_for_attention(&self) -> bool {
        let now = &self.notification.alert;
        let is_worse = |previous: &Notification| previous.alert.incident.severity < now.incident.severity;
        self.is_reminder || !now.resolved && self.previous.as_ref().is_some_and(is_worse)
    }

    /// It is to be kept.
    pub(super) fn put(&self) -> Change {
        let (number, notification) = (self.number, self.notification.clone());
        Change::Put(Box::new(KeptAlert { number, notification, delivery: Delivery::Waits, posted: None }))
    }

    /// The incident that it is about.
    pub fn incident(&self) -> IncidentId {
        self.notification.alert.incident.id
    }
}
