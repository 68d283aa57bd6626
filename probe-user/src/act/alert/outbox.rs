//! What waits for one receiver, in which order, and what is given up when it is too much.
//!
//! - Alerts of one incident keep their order; those of others may overtake one that its receiver refuses.
//! - That an incident is over is told to whoever was told, or is yet to be told, that it is on, and to nobody else.
//! - A full outbox gives up the oldest opening, never a resolution: an incident that nobody closes is worse
//!   than one that nobody saw open and that is still in the event stream.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::Alert;
use crate::fact::{IncidentId, Severity};

/// An alert with the time its incident began by the wall clock, which must be the same in all messages about it.
#[derive(Clone, Debug)]
pub struct Told {
    /// The alert.
    pub alert: Alert,
    /// When the incident began.
    pub since: jiff::Timestamp,
}

/// One alert on its way.
#[derive(Clone, Debug)]
pub struct Message {
    /// Tells messages of one outbox apart.
    pub number: u64,
    /// The alert.
    pub told: Told,
    /// What the receiver was last told of the same incident, if anything.
    pub before: Option<Told>,
    /// How many tries were made.
    pub attempts: u32,
    /// Not to be tried again before that.
    not_before: Option<Instant>,
    under_way: bool,
}

impl Message {
    fn incident(&self) -> IncidentId {
        self.told.alert.incident.id
    }
}

/// What is to be done next.
#[derive(Debug)]
pub enum Next {
    /// This message is to be delivered, and then reported by [`Outbox::delivered`] or [`Outbox::failed`].
    Deliver(Box<Message>),
    /// Nothing before that moment.
    Wait(Instant),
    /// Nothing.
    Empty,
}

/// What waits for one receiver.
#[derive(Debug)]
pub struct Outbox {
    min_severity: Severity,
    capacity: usize,
    queue: VecDeque<Message>,
    /// What the receiver knows to be on.
    firing: BTreeMap<IncidentId, Told>,
    /// Incidents of which a failed delivery was reported and no later success.
    complained: HashSet<IncidentId>,
    given_up: Vec<Alert>,
    dropped: u64,
    last_number: u64,
}

impl Outbox {
    /// An empty outbox for what is at least this loud.
    pub fn new(min_severity: Severity, capacity: usize) -> Self {
        Self {
            min_severity,
            capacity,
            queue: VecDeque::new(),
            firing: BTreeMap::new(),
            complained: HashSet::new(),
            given_up: Vec::new(),
            dropped: 0,
            last_number: 0,
        }
    }

    /// Takes an alert in, if it is one for this receiver; true if there is now something to do.
    pub fn put(&mut self, alert: Alert) -> bool {
        let id = alert.incident.id;
        let told = Told { since: alert.incident.since.to_wall(), alert };
        let last = self.queue.iter_mut().rev().find(|message| message.incident() == id);
        let known = match &last {
            Some(message) => Some(&message.told),
            None => self.firing.get(&id),
        };
        let is_on = known.is_some_and(|known| !known.alert.resolved);
        let news = known.is_none_or(|known| says_other(&known.alert, &told.alert));
        let wanted = if told.alert.resolved {
            is_on
        } else {
            news && (is_on || told.alert.incident.severity >= self.min_severity)
        };
        if !wanted {
            return false;
        }
        let since = known.map_or(told.since, |known| known.since);
        let told = Told { since, ..told };
        match last {
            // What has not been said yet is said as it is now.
            Some(message) if !told.alert.resolved && !message.told.alert.resolved && !message.under_way => {
                message.told = told;
            }
            Some(_) | None => self.push(told),
        }
        true
    }

    fn push(&mut self, told: Told) {
        if !told.alert.resolved && self.queue.len() >= self.capacity {
            let oldest = self
                .queue
                .iter()
                .position(|message| !message.under_way && !message.told.alert.resolved)
                .and_then(|at| self.queue.remove(at));
            match oldest {
                Some(oldest) => self.give_up(oldest.told.alert),
                None => return self.give_up(told.alert),
            }
        }
        self.last_number += 1;
        self.queue.push_back(Message {
            number: self.last_number,
            told,
            before: None,
            attempts: 0,
            not_before: None,
            under_way: false,
        });
    }

    fn give_up(&mut self, alert: Alert) {
        let id = alert.incident.id;
        let still_told = self.firing.contains_key(&id)
            || self.queue.iter().any(|m| m.incident() == id && !m.told.alert.resolved);
        if !still_told {
            // Nobody will have heard that it was on.
            self.queue.retain(|message| message.incident() != id);
        }
        self.given_up.push(alert);
        self.dropped += 1;
    }

    /// What is to be done at this moment.
    pub fn next(&mut self, now: Instant) -> Next {
        let mut passed = HashSet::new();
        let mut soonest: Option<Instant> = None;
        for message in &mut self.queue {
            if !passed.insert(message.incident()) || message.under_way {
                continue;
            }
            match message.not_before.filter(|then| *then > now) {
                Some(then) => soonest = Some(soonest.map_or(then, |soonest| soonest.min(then))),
                None => {
                    message.under_way = true;
                    message.attempts += 1;
                    let before = self.firing.get(&message.incident()).cloned();
                    return Next::Deliver(Box::new(Message { before, ..message.clone() }));
                }
            }
        }
        soonest.map_or(Next::Empty, Next::Wait)
    }

    /// A message was delivered.
    pub fn delivered(&mut self, message: Message) {
        self.queue.retain(|waiting| waiting.number != message.number);
        let id = message.incident();
        self.complained.remove(&id);
        if message.told.alert.resolved {
            self.firing.remove(&id);
        } else {
            self.firing.insert(id, message.told);
        }
    }

    /// A message was not delivered and is to be tried again, not before that moment if one is given; true if that
    /// is the first failure of its incident since the last success, and so worth reporting.
    pub fn failed(&mut self, message: &Message, not_before: Option<Instant>) -> bool {
        if let Some(waiting) = self.queue.iter_mut().find(|waiting| waiting.number == message.number) {
            waiting.under_way = false;
            waiting.not_before = not_before;
        }
        self.complained.insert(message.incident())
    }

    /// What the receiver knows to be on.
    pub fn firing(&self) -> Vec<Told> {
        self.firing.values().cloned().collect()
    }

    /// The alerts given up since this was last asked.
    pub fn take_given_up(&mut self) -> Vec<Alert> {
        std::mem::take(&mut self.given_up)
    }

    /// How many alerts were given up.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How many alerts wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }
}

/// Whether one alert tells a receiver something that the other did not.
fn says_other(before: &Alert, now: &Alert) -> bool {
    let key = |alert: &Alert| {
        let incident = &alert.incident;
        (alert.resolved, incident.verdict, incident.severity, incident.cause)
    };
    key(before) != key(now)
}

/// The wait after so many tries: doubling from `first` up to `longest`.
pub fn back_off(attempts: u32, first: Duration, longest: Duration) -> Duration {
    let doublings = attempts.saturating_sub(1).min(20);
    first.saturating_mul(1 << doublings).min(longest)
}

#[cfg(test)]
mod tests;
