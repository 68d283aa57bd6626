//! Alerts that wait until their incident has lasted long enough for their receiver (`after`).
//!
//! An incident that is over before then is never sent. One that is silenced when its time comes waits for the end of the
//! silence.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::super::{
    kept::{Change, Delivery, KeptAlert},
    notification::{Alert, Notification},
};
use crate::{
    clock::Timestamp,
    fact::{AlertSilence, IncidentId},
};

/// The incidents that receivers are not to be told more of.
pub(super) type Silences = HashMap<IncidentId, AlertSilence>;

#[derive(Debug, Default)]
pub(super) struct Deferred {
    waiting: BTreeMap<IncidentId, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// Its number in the outbox.
    number: u64,
    alert: Alert,
    due: Instant,
}

/// When an incident has lasted for `after`; None if it has by now.
pub(super) fn due(alert: &Alert, after: Duration, now: Instant) -> Option<Instant> {
    let lasted = alert.incident.earlier.before_boot + Timestamp::now().since(alert.incident.since);
    after.checked_sub(lasted).filter(|left| !left.is_zero()).map(|left| now + left)
}

impl Deferred {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn contains(&self, id: IncidentId) -> bool {
        self.waiting.contains_key(&id)
    }

    /// Forgets all of them. Returns their numbers.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = u64> {
        std::mem::take(&mut self.waiting).into_values().map(|waiting| waiting.number)
    }

    pub(super) fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.waiting.values().map(|waiting| &waiting.alert)
    }

    /// Has it wait. The change is to be kept.
    pub(super) fn insert(&mut self, number: u64, alert: Alert, due: Instant) -> Change {
        let notification = Notification { since: alert.incident.began(), alert: alert.clone() };
        self.waiting.insert(alert.incident.id, Waiting { number, alert, due });
        Change::Put(Box::new(KeptAlert { number, notification, delivery: Delivery::Deferred, posted: None }))
    }

    /// Takes in what has become of an incident that waits.
    pub(super) fn update(&mut self, alert: Alert) -> Option<Change> {
        let id = alert.incident.id;
        if alert.resolved {
            return self.waiting.remove(&id).map(|waiting| Change::Remove(waiting.number));
        }
        let Waiting { number, due, .. } = *self.waiting.get(&id)?;
        Some(self.insert(number, alert, due))
    }

    /// Those that are due at `now`, each with its number. They wait no more.
    pub(super) fn take_due(&mut self, now: Instant, silences: &Silences) -> Vec<(u64, Alert)> {
        let is_due =
            |id: &IncidentId, waiting: &mut Waiting| waiting.due <= now && !silences.contains_key(id);
        let due = self.waiting.extract_if(.., is_due);
        due.map(|(_, waiting)| (waiting.number, waiting.alert)).collect()
    }

    /// When the next is due that is not silenced.
    pub(super) fn deadline(&self, silences: &Silences) -> Option<Instant> {
        let heard = self.waiting.iter().filter(|(id, _)| !silences.contains_key(id));
        heard.map(|(_, waiting)| waiting.due).min()
    }
}
