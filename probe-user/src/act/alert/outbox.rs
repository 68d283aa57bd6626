//! The alerts that wait for one receiver, their order, and which alert a full outbox drops.
//!
//! - Alerts of one incident keep their order. Alerts of other incidents may overtake an alert that the receiver
//!   refuses.
//! - A receiver gets a resolution only if it has got, or will get, the opening.
//! - A full outbox drops the oldest opening, never a resolution. A missing resolution leaves an alert open for good;
//!   an incident without its opening is still in the event stream.
//! - Of a storm of openings, most become one summary (`storm`).

mod storm;

use std::collections::{BTreeMap, HashSet, VecDeque};

use tokio::time::Instant;

use self::storm::{Admitted, Storm};
use super::{
    kept::{Change, Delivery, KeptAlert},
    notification::{Alert, Notification},
};
use crate::fact::{IncidentId, Severity};

/// How many alerts may wait for one receiver.
pub const CAPACITY: usize = 1000;

/// A queued notification.
#[derive(Clone, Debug)]
pub struct Message {
    /// Unique in its outbox.
    pub number: u64,
    pub notification: Notification,
    /// The last delivered notification of the same incident.
    pub previous: Option<Notification>,
    pub attempts: u32,
    /// The earliest time of the next attempt.
    not_before: Option<Instant>,
    in_flight: bool,
}

impl Message {
    fn new(number: u64, notification: Notification) -> Self {
        Self { number, notification, previous: None, attempts: 0, not_before: None, in_flight: false }
    }

    /// It is to be kept.
    fn put(&self) -> Change {
        let (number, notification) = (self.number, self.notification.clone());
        Change::Put(Box::new(KeptAlert { number, notification, delivery: Delivery::Waits }))
    }

    fn incident(&self) -> IncidentId {
        self.notification.alert.incident.id
    }
}

#[derive(Debug)]
pub enum Next {
    /// Deliver this message, then call [`Outbox::delivered`] or [`Outbox::failed`].
    Deliver(Box<Message>),
    /// Nothing is due before this time.
    Wait(Instant),
    Empty,
}

#[derive(Debug)]
pub struct Outbox {
    min_severity: Severity,
    /// A reload removed the receiver: it gets nothing about further incidents.
    retired: bool,
    capacity: usize,
    queue: VecDeque<Message>,
    /// The last delivered notification of each unresolved incident.
    firing: BTreeMap<IncidentId, Firing>,
    /// Incidents whose last delivery failed, so that the daemon reports only the first failure.
    failing: HashSet<IncidentId>,
    dropped: Vec<Alert>,
    dropped_count: u64,
    last_number: u64,
    storm: Storm,
    /// What is to be kept over a restart of the daemon, since it was last taken.
    changes: Vec<Change>,
}

/// What a receiver knows of an incident.
#[derive(Debug)]
struct Firing {
    /// That of its message.
    number: u64,
    notification: Notification,
}

impl Outbox {
    pub fn new(min_severity: Severity, capacity: usize) -> Self {
        Self {
            min_severity,
            retired: false,
            capacity,
            queue: VecDeque::new(),
            firing: BTreeMap::new(),
            failing: HashSet::new(),
            dropped: Vec::new(),
            dropped_count: 0,
            last_number: 0,
            storm: Storm::default(),
            changes: Vec::new(),
        }
    }

    /// Takes over what an earlier run of the daemon has left.
    pub fn restore(&mut self, mut alerts: Vec<KeptAlert>) {
        alerts.sort_by_key(|alert| alert.number);
        for KeptAlert { number, notification, delivery } in alerts {
            self.last_number = self.last_number.max(number);
            match delivery {
                Delivery::Waits => self.queue.push_back(Message::new(number, notification)),
                Delivery::Done => {
                    self.firing.insert(notification.alert.incident.id, Firing { number, notification });
                }
                Delivery::Summarised => self.storm.restore(number, notification.alert, Instant::now()),
            }
        }
    }

    /// What changed since the last call, of that which is to be kept.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The alerts of a receiver may be more or less severe from now on.
    pub fn set_min_severity(&mut self, min_severity: Severity) {
        self.min_severity = min_severity;
    }

    /// The latest alerts about incidents that are not over, as the receiver knows them or is about to.
    pub fn open(&self) -> impl Iterator<Item = &Alert> {
        let queued = self.queue.iter().map(|message| &message.notification);
        let firing = self.firing.values().map(|firing| &firing.notification);
        let mut latest: BTreeMap<IncidentId, &Alert> = BTreeMap::new();
        for alert in firing.chain(queued).map(|notification| &notification.alert).chain(self.storm.open()) {
            latest.insert(alert.incident.id, alert);
        }
        latest.into_values().filter(|alert| !alert.resolved)
    }

    pub fn retire(&mut self, retired: bool) {
        self.retired = retired;
    }

    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// A retired receiver knows of no open incident any more.
    pub fn is_over(&self) -> bool {
        self.retired && self.queue.is_empty() && self.firing.is_empty() && self.storm.is_over()
    }

    fn wants(&self, severity: Severity) -> bool {
        !self.retired && severity >= self.min_severity
    }

    /// Queues an alert if this receiver wants it. True if there is now a message to deliver, or to wait for.
    pub fn put(&mut self, alert: Alert) -> bool {
        let is_known = self.knows(alert.incident.id);
        if !is_known && !alert.resolved && !self.wants(alert.incident.severity) {
            return false;
        }
        match self.storm.admit(alert, is_known, &mut self.last_number, Instant::now()) {
            Admitted::Yes(alert) => self.enqueue(alert),
            Admitted::Summarised(change) => {
                self.changes.push(change);
                true
            }
            Admitted::Dropped(alert) => {
                self.drop_alert(alert);
                true
            }
        }
    }

    /// Whether the receiver has got, or will get, an alert of this incident itself.
    fn knows(&self, id: IncidentId) -> bool {
        self.firing.contains_key(&id) || self.queue.iter().any(|message| message.incident() == id)
    }

    /// Queues what the storm's summary says by now, if it is due.
    fn summarise(&mut self, now: Instant) {
        let is_known = self.knows(storm::SUMMARY);
        for alert in self.storm.due(now, is_known) {
            self.enqueue(alert);
        }
    }

    /// Queues a summary that waits for its time, because the daemon ends.
    pub fn hurry(&mut self) {
        self.storm.hurry(Instant::now());
    }

    fn enqueue(&mut self, alert: Alert) -> bool {
        let id = alert.incident.id;
        let is_wanted = self.wants(alert.incident.severity);
        let notification = Notification { since: alert.incident.began(), alert };
        let last = self.queue.iter_mut().rev().find(|message| message.incident() == id);
        let known = match &last {
            Some(message) => Some(&message.notification),
            None => self.firing.get(&id).map(|firing| &firing.notification),
        };
        let is_firing = known.is_some_and(|known| !known.alert.resolved);
        let has_changed = known.is_none_or(|known| differs(&known.alert, &notification.alert));
        let wanted =
            if notification.alert.resolved { is_firing } else { has_changed && (is_firing || is_wanted) };
        if !wanted {
            return false;
        }
        let since = known.map_or(notification.since, |known| known.since);
        let notification = Notification { since, ..notification };
        match last {
            // A queued opening takes over the incident's present state.
            Some(message)
                if !notification.alert.resolved
                    && !message.notification.alert.resolved
                    && !message.in_flight =>
            {
                message.notification = notification;
                self.changes.push(message.put());
            }
            Some(_) | None => self.push(notification),
        }
        true
    }

    fn push(&mut self, notification: Notification) {
        if !notification.alert.resolved && self.queue.len() >= self.capacity {
            let oldest = self
                .queue
                .iter()
                .position(|message| !message.in_flight && !message.notification.alert.resolved)
                .and_then(|at| self.queue.remove(at));
            match oldest {
                Some(oldest) => {
                    self.changes.push(Change::Remove(oldest.number));
                    self.drop_alert(oldest.notification.alert);
                }
                None => return self.drop_alert(notification.alert),
            }
        }
        self.last_number += 1;
        let message = Message::new(self.last_number, notification);
        self.changes.push(message.put());
        self.queue.push_back(message);
    }

    fn drop_alert(&mut self, alert: Alert) {
        let id = alert.incident.id;
        let opening_delivered = self.firing.contains_key(&id)
            || self.queue.iter().any(|m| m.incident() == id && !m.notification.alert.resolved);
        if !opening_delivered {
            // The receiver never gets the opening, so it needs no resolution.
            let changes = &mut self.changes;
            self.queue.retain(|message| {
                let is_needed = message.incident() != id;
                if !is_needed {
                    changes.push(Change::Remove(message.number));
                }
                is_needed
            });
        }
        self.dropped.push(alert);
        self.dropped_count += 1;
    }

    pub fn next(&mut self, now: Instant) -> Next {
        self.summarise(now);
        let mut passed = HashSet::new();
        let mut soonest: Option<Instant> = self.storm.deadline();
        for message in &mut self.queue {
            if !passed.insert(message.incident()) || message.in_flight {
                continue;
            }
            match message.not_before.filter(|then| *then > now) {
                Some(then) => soonest = Some(soonest.map_or(then, |soonest| soonest.min(then))),
                None => {
                    message.in_flight = true;
                    message.attempts += 1;
                    let previous = self.firing.get(&message.incident());
                    let previous = previous.map(|firing| firing.notification.clone());
                    return Next::Deliver(Box::new(Message { previous, ..message.clone() }));
                }
            }
        }
        soonest.map_or(Next::Empty, Next::Wait)
    }

    pub fn delivered(&mut self, message: Message) {
        self.queue.retain(|waiting| waiting.number != message.number);
        let id = message.incident();
        self.failing.remove(&id);
        let before = if message.notification.alert.resolved {
            self.changes.push(Change::Remove(message.number));
            self.firing.remove(&id)
        } else {
            let Message { number, notification, .. } = message;
            let kept = KeptAlert { number, notification: notification.clone(), delivery: Delivery::Done };
            self.changes.push(Change::Put(Box::new(kept)));
            self.firing.insert(id, Firing { number, notification })
        };
        self.changes.extend(before.map(|before| Change::Remove(before.number)));
    }

    /// Queues a message again after a failed delivery. True if this is the incident's first failure since the last
    /// success.
    pub fn failed(&mut self, message: &Message, not_before: Option<Instant>) -> bool {
        if let Some(waiting) = self.queue.iter_mut().find(|waiting| waiting.number == message.number) {
            waiting.in_flight = false;
            waiting.not_before = not_before;
        }
        self.failing.insert(message.incident())
    }

    /// The incidents that the receiver takes for unresolved.
    pub fn firing(&self) -> Vec<Notification> {
        self.firing.values().map(|firing| firing.notification.clone()).collect()
    }

    /// The alerts dropped since the last call.
    pub fn take_dropped(&mut self) -> Vec<Alert> {
        std::mem::take(&mut self.dropped)
    }

    /// How many alerts were ever dropped.
    pub const fn dropped(&self) -> u64 {
        self.dropped_count
    }

    pub fn waiting(&self) -> usize {
        self.queue.len() + usize::from(self.storm.deadline().is_some())
    }
}

/// Whether a receiver learns something from the later alert.
fn differs(previous: &Alert, now: &Alert) -> bool {
    let key = |alert: &Alert| {
        let incident = &alert.incident;
        (alert.resolved, incident.verdict, incident.severity, alert.summary.clone())
    };
    // An earlier run of the daemon had other numbers for its services.
    let cause = |alert: &Alert| alert.names.service(alert.incident.cause).to_owned();
    key(previous) != key(now) || cause(previous) != cause(now)
}

#[cfg(test)]
mod tests;
