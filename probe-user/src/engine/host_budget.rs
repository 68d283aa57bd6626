//! The restart budget of all services together, and the incident of hostprobe while restarts wait for it.
//!
//! A fault that many services share, such as a bad release or a full disk, would let each of them spend its own budget.
//! Beyond this one, a restart is held until there is room, and the service that has waited for the longest comes first.
//! It counts the restarts that hostprobe decides on: neither an operator's, nor first starts, nor those by systemd.

use std::{collections::VecDeque, time::Duration};

use super::{
    budget::describe,
    effect::{Effect, Effects},
};
use crate::{
    clock::Timestamp,
    fact::{
        Earlier, EventId, Fact, Incident, IncidentId, Phase, RestartBudget, ServiceId, Severity, Timing,
        Verdict,
    },
};

/// While restarts wait, their number is published as often, at most.
const INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub struct HostBudget {
    budget: RestartBudget,
    spent: VecDeque<Timestamp>,
    /// The event of the first restart that is held while no incident is open.
    held: Option<EventId>,
    open: Option<Incident>,
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
        if self.open.is_none() {
            self.held.get_or_insert(event);
        }
    }

    /// Whether its incident is open.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Such as "20 per 10m".
    pub fn describe(&self) -> String {
        format!("{} per {}", self.budget.restarts, describe(self.budget.window))
    }

    /// When there is room again, or the incident is looked at, with this many waiting restarts.
    pub fn deadline(&self, waiting: usize) -> Option<Timestamp> {
        // After a reload, more may be spent than the budget allows.
        let surplus = self.spent.len().saturating_sub(self.allowed());
        let room = self.spent.get(surplus).map(|&then| then.plus(self.budget.window));
        room.filter(|_| waiting > 0).into_iter().chain(self.due).min()
    }

    /// Updates or resolves the incident when that is due. `waiting` are the services whose restarts wait for room.
    pub fn tick(&mut self, waiting: Vec<ServiceId>, now: Timestamp, effects: &mut impl Effects) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        // Half of it: one free restart would end the incident only to open the next.
        let has_room = self.left(now) * 2 >= self.allowed();
        let summary = self.summary(waiting.len());
        let Some(open) = &mut self.open else { return };
        if !waiting.is_empty() || !has_room {
            if open.held != waiting {
                open.held = waiting;
                open.summary = summary;
                effects.publish(Fact::Incident(Phase::Update, open.clone()), now);
            }
            self.due = Some(now.plus(INTERVAL));
            return;
        }
        open.held = waiting;
        open.timing.healthy = Some(now.since(open.since));
        effects.publish(Fact::Incident(Phase::Resolve, open.clone()), now);
        effects.request(Effect::Alert { incident: open.clone(), resolved: true });
        self.open = None;
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
        *incidents += 1;
        let incident = Incident {
            id: IncidentId::new(*incidents),
            service: ServiceId::DAEMON,
            verdict: Verdict::RestartStorm,
            confidence: 1.0,
            summary: self.summary(waiting.len()),
            severity: Severity::Critical,
            cause: ServiceId::DAEMON,
            evidence: vec![event],
            held: waiting,
            since: now,
            timing: Timing {
                detected: Some(Duration::ZERO),
                decided: Some(Duration::ZERO),
                ..Timing::default()
            },
            attempts: 0,
            snapshot: None,
            earlier: Earlier::default(),
        };
        effects.publish(Fact::Incident(Phase::Open, incident.clone()), now);
        effects.request(Effect::Alert { incident: incident.clone(), resolved: false });
        self.open = Some(incident);
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
