//! The alerts that wait for one receiver, their order, and which alert a full outbox drops.
//!
//! - Alerts of one incident keep their order. Alerts of other incidents may overtake an alert that the receiver
//!   refuses.
//! - A receiver gets a resolution only if it has got, or will get, the opening.
//! - A full outbox drops the oldest opening, never a resolution. A missing resolution leaves an alert open for good;
//!   an incident without its opening is still in the event stream.
//! - Of a storm of openings, most become one summary (`storm`).
//! - An escalation waits until its incident has lasted long enough (`deferred`). An open incident is sent again from time to
//!   time if the receiver wants reminders. Neither while an operator has acknowledged it or paused its service.

mod deferred;
mod message;
mod storm;

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

pub use self::message::Message;
use self::{
    deferred::{Deferred, Silences},
    storm::{Admitted, Storm},
};
use super::{
    kept::{Change, Delivery, KeptAlert},
    notification::{Alert, Notification},
};
use crate::{
    config::AlertRoute,
    fact::{AlertSilence, IncidentId},
};

/// The wait before a reminder that could not be delivered is tried again.
const REMINDER_RETRY: Duration = Duration::from_secs(60);

/// How many alerts may wait for one receiver.
pub const CAPACITY: usize = 1000;

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
    route: AlertRoute,
    /// The receiver shows an acknowledgement where it shows the incident, and further services that are held.
    shows_silence: bool,
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
    deferred: Deferred,
    silences: Silences,
    /// What is to be kept over a restart of the daemon, since it was last taken.
    changes: Vec<Change>,
}

/// What a receiver knows of an incident.
#[derive(Debug)]
struct Firing {
    /// That of its message.
    number: u64,
    notification: Notification,
    /// The receiver's own name for it.
    posted: Option<String>,
    /// When it is sent again.
    remind_at: Option<Instant>,
}

impl Outbox {
    pub fn new(route: AlertRoute, shows_silence: bool, capacity: usize) -> Self {
        Self {
            route,
            shows_silence,
            retired: false,
            capacity,
            queue: VecDeque::new(),
            firing: BTreeMap::new(),
            failing: HashSet::new(),
            dropped: Vec::new(),
            dropped_count: 0,
            last_number: 0,
            storm: Storm::default(),
            deferred: Deferred::default(),
            silences: Silences::new(),
            changes: Vec::new(),
        }
    }

    /// Takes over what an earlier run of the daemon has left.
    pub fn restore(&mut self, mut alerts: Vec<KeptAlert>) {
        alerts.sort_by_key(|alert| alert.number);
        let now = Instant::now();
        for KeptAlert { number, notification, delivery, posted } in alerts {
            self.last_number = self.last_number.max(number);
            match delivery {
                Delivery::Waits => self.queue.push_back(Message::new(number, notification)),
                Delivery::Done => {
                    let remind_at = self.route.remind.map(|remind| now + remind);
                    let firing = Firing { number, notification, posted, remind_at };
                    self.firing.insert(firing.notification.alert.incident.id, firing);
                }
                Delivery::Summarised => self.storm.restore(number, notification.alert, now),
                Delivery::Deferred => {
                    let due = deferred::due(&notification.alert, self.route.after, now).unwrap_or(now);
                    self.deferred.insert(number, notification.alert, due);
                }
            }
        }
    }

    /// What changed since the last call, of that which is to be kept.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The receiver wants other incidents from now on, or at other times.
    pub fn set_route(&mut self, route: AlertRoute) {
        if route.remind != self.route.remind {
            let remind_at = route.remind.map(|remind| Instant::now() + remind);
            self.firing.values_mut().for_each(|firing| firing.remind_at = remind_at);
        }
        self.route = route;
    }

    /// The latest alerts about incidents that are not over, as the receiver knows them or is about to.
    pub fn open(&self) -> impl Iterator<Item = &Alert> {
        let queued = self.queue.iter().map(|message| &message.notification);
        let firing = self.firing.values().map(|firing| &firing.notification);
        let mut latest: BTreeMap<IncidentId, &Alert> = BTreeMap::new();
        for alert in firing
            .chain(queued)
            .map(|notification| &notification.alert)
            .chain(self.storm.open())
            .chain(self.deferred.alerts())
        {
            latest.insert(alert.incident.id, alert);
        }
        latest.into_values().filter(|alert| !alert.resolved)
    }

    /// A retired receiver gets nothing more but the ends of what it knows.
    pub fn retire(&mut self, retired: bool) {
        self.retired = retired;
        if retired {
            self.changes.extend(self.deferred.clear().map(Change::Remove));
        }
    }

    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// A retired receiver knows of no open incident any more.
    pub fn is_over(&self) -> bool {
        self.retired && self.queue.is_empty() && self.firing.is_empty() && self.storm.is_over()
    }

    fn wants(&self, alert: &Alert) -> bool {
        // A summary has what the receiver wants in it.
        let is_wanted = alert.summary.is_some() || self.route.wants(alert.incident.severity, alert.service());
        !self.retired && is_wanted
    }

    /// Queues an alert if this receiver wants it. True if there is now a message to deliver, or to wait for.
    pub fn put(&mut self, mut alert: Alert) -> bool {
        let (id, now) = (alert.incident.id, Instant::now());
        if alert.resolved {
            self.silences.remove(&id);
        } else if self.shows_silence {
            alert.silence = self.silences.get(&id).cloned();
        }
        if self.deferred.contains(id) {
            self.changes.extend(self.deferred.update(alert));
            return true;
        }
        let is_known = self.knows(id);
        if !is_known && !alert.resolved {
            if !self.wants(&alert) {
                return false;
            }
            let is_summarised = self.storm.open().any(|open| open.incident.id == id);
            if !is_summarised && let Some(due) = deferred::due(&alert, self.route.after, now) {
                self.defer(alert, due);
                return true;
            }
        }
        self.admit(alert, is_known, now)
    }

    fn defer(&mut self, alert: Alert, due: Instant) {
        if self.deferred.len() >= self.capacity {
            return self.drop_alert(alert);
        }
        self.last_number += 1;
        self.changes.push(self.deferred.insert(self.last_number, alert, due));
    }

    /// Takes in an alert that its receiver is to know of, by itself or in a summary.
    fn admit(&mut self, alert: Alert, is_known: bool, now: Instant) -> bool {
        match self.storm.admit(alert, is_known, &mut self.last_number, now) {
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

    /// Holds back escalations and reminders of an incident; None ends that. True if there is now a message to deliver, or to
    /// wait for.
    pub fn silence(&mut self, id: IncidentId, silence: Option<AlertSilence>) -> bool {
        match &silence {
            Some(silence) => _ = self.silences.insert(id, silence.clone()),
            None => _ = self.silences.remove(&id),
        }
        let queued = self.queue.iter().rev().find(|message| message.incident() == id);
        let firing = self.firing.get(&id).map(|firing| &firing.notification);
        let known = queued.map(|message| &message.notification).or(firing);
        let shown = known.filter(|known| self.shows_silence && !known.alert.resolved);
        if let Some(alert) = shown.map(|known| known.alert.clone()) {
            self.enqueue(Alert { silence, ..alert });
        }
        true
    }

    /// Whether the receiver has got, or will get, an alert of this incident itself.
    fn knows(&self, id: IncidentId) -> bool {
        self.firing.contains_key(&id) || self.queue.iter().any(|message| message.incident() == id)
    }

    /// Queues what has waited for its time.
    fn queue_due(&mut self, now: Instant) {
        for (number, alert) in self.deferred.take_due(now, &self.silences) {
            self.changes.push(Change::Remove(number));
            self.admit(alert, false, now);
        }
        self.summarise(now);
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
        let is_wanted = self.wants(&alert);
        let notification = Notification { since: alert.incident.began(), alert };
        let last = self.queue.iter_mut().rev().find(|message| message.incident() == id);
        let known = match &last {
            Some(message) => Some(&message.notification),
            None => self.firing.get(&id).map(|firing| &firing.notification),
        };
        let is_firing = known.is_some_and(|known| !known.alert.resolved);
        let has_changed = known.is_none_or(|known| {
            differs(&known.alert, &notification.alert)
                || self.shows_silence && has_more_held(&known.alert, &notification.alert)
        });
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
        self.queue_due(now);
        let mut passed = HashSet::new();
        let mut soonest: Option<Instant> = self.storm.deadline();
        let mut wait = |until: Option<Instant>| soonest = soonest.into_iter().chain(until).min();
        wait(self.deferred.deadline(&self.silences));
        for message in &mut self.queue {
            if !passed.insert(message.incident()) || message.in_flight {
                continue;
            }
            match message.not_before.filter(|then| *then > now) {
                Some(then) => wait(Some(then)),
                None => {
                    message.in_flight = true;
                    message.attempts += 1;
                    let known = self.firing.get(&message.incident());
                    let previous = known.map(|firing| firing.notification.clone());
                    let posted = known.and_then(|firing| firing.posted.clone());
                    return Next::Deliver(Box::new(Message { previous, posted, ..message.clone() }));
                }
            }
        }
        for (id, firing) in &mut self.firing {
            let is_quiet = self.retired || passed.contains(id) || self.silences.contains_key(id);
            let Some(at) = firing.remind_at.filter(|_| !is_quiet) else { continue };
            if at > now {
                wait(Some(at));
                continue;
            }
            firing.remind_at = Some(now + self.route.remind.unwrap_or(REMINDER_RETRY));
            let (notification, posted) = (firing.notification.clone(), firing.posted.clone());
            let message = Message { posted, is_reminder: true, attempts: 1, ..Message::new(0, notification) };
            return Next::Deliver(Box::new(message));
        }
        soonest.map_or(Next::Empty, Next::Wait)
    }

    /// The receiver has a message, which it calls `posted`.
    pub fn delivered(&mut self, message: Message, posted: Option<String>) {
        let id = message.incident();
        self.failing.remove(&id);
        if message.is_reminder {
            return;
        }
        self.queue.retain(|waiting| waiting.number != message.number);
        let before = if message.notification.alert.resolved {
            self.changes.push(Change::Remove(message.number));
            self.firing.remove(&id)
        } else {
            let Message { number, notification, .. } = message;
            let delivery = Delivery::Done;
            let kept =
                KeptAlert { number, notification: notification.clone(), delivery, posted: posted.clone() };
            self.changes.push(Change::Put(Box::new(kept)));
            let remind_at = self.route.remind.map(|remind| Instant::now() + remind);
            self.firing.insert(id, Firing { number, notification, posted, remind_at })
        };
        self.changes.extend(before.map(|before| Change::Remove(before.number)));
    }

    /// Queues a message again after a failed delivery. True if this is the incident's first failure since the last
    /// success.
    pub fn failed(&mut self, message: &Message, not_before: Option<Instant>) -> bool {
        let id = message.incident();
        if message.is_reminder {
            if let Some(firing) = self.firing.get_mut(&id) {
                let retry = Instant::now() + REMINDER_RETRY;
                firing.remind_at = firing.remind_at.map(|at| at.min(retry));
            }
        } else if let Some(waiting) = self.queue.iter_mut().find(|waiting| waiting.number == message.number) {
            waiting.in_flight = false;
            waiting.not_before = not_before;
        }
        self.failing.insert(id)
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
        (alert.resolved, incident.verdict, incident.severity, alert.summary.clone(), alert.silence.clone())
    };
    // An earlier run of the daemon had other numbers for its services.
    let cause = |alert: &Alert| alert.names.service(alert.incident.cause).to_owned();
    key(previous) != key(now) || cause(previous) != cause(now)
}

/// Whether more services are held than the receiver knows of. That is worth an update, and no message.
fn has_more_held(previous: &Alert, now: &Alert) -> bool {
    now.incident.held.len() > previous.incident.held.len()
}

#[cfg(test)]
mod tests;
