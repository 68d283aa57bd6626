//! The restart budget of all services together, and the incident of hostprobe while restarts wait for it.
//!
//! A fault that many services share, such as a bad release or a full disk, would let each of them spend its own budget.
//! Beyond this one, a restart is held until there is room, and the service that has waited for the longest comes first.
//! It counts the restarts that hostprobe decides on: neither an operator's, nor first starts, nor those by systemd.

use std::{collections::VecDeque, time::Duration};

use super::{budget::describe, effect::Effects, own_incident::OwnIncident};
use crate::{
    clock::Timestamp,
    fact::{EventId, Incident, RestartBudget, ServiceId, Verdict},
};

/// While restarts wait, their number is published as often, at most.
const INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub struct HostBudget {
    budget: RestartBudget,
    spent: VecDeque<Timestamp>,
    /// The event of the first restart that is held while no incident is open.
    held: Option<EventId>,
    open: OwnIncident,
    due: Option<Timestamp>,
}

impl HostBudget {
    pub fn new(budget: RestartBudget) -> Self {
        Self { budget, ..Self::default() }
    }

    /// A reload changed the budget. What is spent stays spent.
    pub fn configure(&mut self, budget: RestartBudget) {
        self.budget = budget;
    }

    /// How many restarts are left at `now`.
    pub fn left(&mut self, now: Timestamp) -> usize {
        while self.spent.front().is_some_and(|&then| now.since(then) >= self.budget.window) {
            self.spent.pop_front();
        }
        self.allowed().saturating_sub(self.spent.len())
    }

    /// Spends a restart. False if none is left.
    pub fn spend(&mut self, now: Timestamp) -> bool {
        let has_room = self.left(now) > 0;
        if has_room {
            self.spent.push_back(now);
        }
        has_room
    }

    /// Takes over what a service spent in an earlier run of the daemon.
    pub fn restore(&mut self, spent: &[Timestamp], now: Timestamp) {
        self.spent.extend(spent.iter().map(|at| (*at).min(now)));
        self.spent.make_contiguous().sort_unstable();
    }

    /// Notes that a restart is held because the budget is spent, with its event.
    pub fn note_held(&mut self, event: EventId) {
        if !self.open.is_open() {
            self.held.get_or_insert(event);
        }
    }

    pub fn incident(&mut self) -> &mut OwnIncident {
        &mut self.open
    }

    /// Whether its incident is open.
    pub fn is_open(&self) -> bool {
        self.open.is_open()
    }

    /// Such as "20 per 10m".
    pub fn describe(&self) -> String {
        format!("{} per {}", self.budget.restarts, describe(self.budget.window))
    }

    /// When there is room again for the restarts that wait, if any does, or the incident is looked at.
    pub fn deadline(&self, waits: bool) -> Option<Timestamp> {
        // After a reload, more may be spent than the budget allows.
        let surplus = self.spent.len().saturating_sub(self.allowed());
        let room = self.spent.get(surplus).map(|&then| then.plus(self.budget.window));
        room.filter(|_| waits).into_iter().chain(self.due).min()
    }

    /// Whether the incident is to be opened, because a restart was held.
    pub fn is_to_open(&self) -> bool {
        self.held.is_some()
    }

    pub fn is_due(&self, now: Timestamp) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Updates or resolves the incident, when that is due. `waiting` are the services whose restarts wait for room.
    pub fn tick(&mut self, waiting: Vec<ServiceId>, now: Timestamp, effects: &mut impl Effects) {
        self.due = None;
        // Half of it: one free restart would end the incident only to open the next.
        let has_room = self.left(now) * 2 >= self.allowed();
        let summary = self.summary(waiting.len());
        let Some(open) = self.open.get_mut() else { return };
        if !waiting.is_empty() || !has_room {
            if open.held != waiting {
                open.held = waiting;
                open.summary = summary;
                self.open.update(now, effects);
            }
            self.due = Some(now.plus(INTERVAL));
            return;
        }
        open.held = waiting;
        self.open.resolve(now, effects);
    }

    /// Opens the incident if a restart was held and none is open.
    pub fn open_if_held(
        &mut self,
        waiting: Vec<ServiceId>,
        now: Timestamp,
        incidents: &mut u64,
        effects: &mut impl Effects,
    ) {
        let Some(event) = self.held.take() else { return };
        let summary = self.summary(waiting.len());
        let incident = OwnIncident::next(Verdict::RestartStorm, summary, now, incidents);
        self.open.open(Incident { evidence: vec![event], held: waiting, ..incident }, now, effects);
        self.due = Some(now.plus(INTERVAL));
    }

    fn summary(&self, waiting: usize) -> String {
        let restarts = match waiting {
            0 => "no restart waits any more".to_owned(),
            1 => "one restart waits".to_owned(),
            _ => format!("{waiting} restarts wait"),
        };
        format!("the budget of {} restarts of all services is spent: {restarts}", self.describe())
    }

    fn allowed(&self) -> usize {
        usize::try_from(self.budget.restarts).unwrap_or(usize::MAX)
    }
}
