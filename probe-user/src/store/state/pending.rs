//! What the file should have, and which part of it the file does not have yet.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    kept::Saved,
    queue::{Job, MOST_ROLLUPS},
    remembered::Remembered,
};
use crate::{
    act::alert::Change,
    emit::Origin,
    fact::{DrillReport, Memory, Orders},
    probe::heartbeat::KeptBeat,
    store::{
        history::Timeline,
        rollup::{Rollup, Totals},
    },
};

/// The most incidents that wait while the file cannot be written.
const MOST_INCIDENTS: usize = 256;

/// The same of drills.
const MOST_DRILLS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Pending {
    /// All orders in force, by service.
    pub(super) orders: BTreeMap<String, Orders>,
    /// The services whose orders the file does not have yet.
    pub(super) changed_orders: BTreeSet<String>,
    /// All memories, by service, as the file has them.
    pub(super) memories: BTreeMap<String, String>,
    pub(super) changed_memories: BTreeSet<String>,
    /// The outboxes, by receiver and number, as the file has them.
    pub(super) alerts: BTreeMap<(String, u64), String>,
    pub(super) changed_alerts: BTreeSet<(String, u64)>,
    /// The commands that run, by service, as the file has them.
    pub(super) commands: BTreeMap<String, String>,
    pub(super) changed_commands: BTreeSet<String>,
    /// The latest reports of jobs, by heartbeat.
    pub(super) heartbeats: BTreeMap<String, KeptBeat>,
    pub(super) changed_heartbeats: BTreeSet<String>,
    /// The drills that the file does not have yet, as they are now. There is one at a time, and an operator waits for it.
    pub(super) drills: Vec<DrillReport>,
    /// The same of incidents.
    pub(super) incidents: Vec<Timeline>,
    /// The changes of minutes that the file does not have yet, by the beginning of the minute and the service.
    pub(super) rollups: BTreeMap<(i64, String), Totals>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        !self.is_urgent() && !self.has_history()
    }

    /// Whether there is something for people.
    pub(super) fn has_history(&self) -> bool {
        !(self.incidents.is_empty() && self.rollups.is_empty())
    }

    /// Whether there is something that a later run has to know, or that is waited for.
    pub(super) fn is_urgent(&self) -> bool {
        !(self.changed_orders.is_empty()
            && self.changed_memories.is_empty()
            && self.changed_alerts.is_empty()
            && self.changed_commands.is_empty()
            && self.changed_heartbeats.is_empty()
            && self.drills.is_empty())
    }

    /// What the file has at the start.
    pub(super) fn of(remembered: &Remembered) -> Self {
        let memories = remembered.memories.iter().filter_map(|memory| {
            // Its own service is the first that it names.
            Some((memory.names().first()?.clone(), memory.text()))
        });
        let alerts = remembered.alerts.iter().map(|(key, alert)| (key.clone(), alert.text()));
        Self {
            orders: remembered.orders.clone(),
            memories: memories.collect(),
            alerts: alerts.collect(),
            commands: remembered.commands.iter().map(|(service, it)| (service.clone(), it.text())).collect(),
            heartbeats: remembered.heartbeats.clone(),
            ..Self::default()
        }
    }

    /// Takes in a change. Returns how many incidents and minutes were lost because there is no room.
    pub(super) fn take(&mut self, job: Job, origin: &Origin) -> u64 {
        match job {
            Job::Orders { service, orders } => {
                self.changed_orders.insert(service.clone());
                if *orders == Orders::default() {
                    self.orders.remove(&service);
                } else {
                    self.orders.insert(service, *orders);
                }
                0
            }
            Job::Memory { service, memory, names } => {
                let name = names.service(service).to_owned();
                self.changed_memories.insert(name.clone());
                if *memory == Memory::default() {
                    self.memories.remove(&name);
                } else {
                    self.memories.insert(name, Saved::memory(service, *memory, &names, origin).text());
                }
                0
            }
            Job::Alerts { receiver, changes } => {
                for change in changes {
                    self.take_alert(&receiver, change, origin);
                }
                0
            }
            Job::Command { service, command } => {
                match command {
                    Some(command) => _ = self.commands.insert(service.clone(), command.text()),
                    None => _ = self.commands.remove(&service),
                }
                self.changed_commands.insert(service);
                0
            }
            Job::Beat { heartbeat, beat } => {
                self.heartbeats.insert(heartbeat.clone(), beat);
                self.changed_heartbeats.insert(heartbeat);
                0
            }
            Job::Incident(timeline) => self.take_incident(*timeline),
            Job::Drill(report) => self.take_drill(*report),
            Job::Rollups(rollups) => self.take_rollups(rollups),
        }
    }

    fn take_alert(&mut self, receiver: &str, change: Change, origin: &Origin) {
        let key = |number: u64| (receiver.to_owned(), number);
        match change {
            Change::Put(alert) => {
                self.changed_alerts.insert(key(alert.number));
                self.alerts.insert(key(alert.number), Saved::alert(*alert, origin).text());
            }
            Change::Remove(number) => {
                self.changed_alerts.insert(key(number));
                self.alerts.remove(&key(number));
            }
        }
    }

    fn take_incident(&mut self, timeline: Timeline) -> u64 {
        if let Some(known) = self.incidents.iter_mut().find(|known| known.incident.id == timeline.incident.id)
        {
            *known = timeline;
            return 0;
        }
        let is_full = self.incidents.len() >= MOST_INCIDENTS;
        if is_full {
            let over = self.incidents.iter().position(|known| !known.is_open());
            self.incidents.remove(over.unwrap_or(0));
        }
        self.incidents.push(timeline);
        u64::from(is_full)
    }

    fn take_drill(&mut self, report: DrillReport) -> u64 {
        self.drills.retain(|known| known.id != report.id);
        let is_full = self.drills.len() >= MOST_DRILLS;
        if is_full {
            self.drills.remove(0);
        }
        self.drills.push(report);
        u64::from(is_full)
    }

    fn take_rollups(&mut self, rollups: Vec<Rollup>) -> u64 {
        for Rollup { service, start, totals } in rollups {
            self.rollups.entry((start, service)).or_default().add(&totals);
        }
        let mut lost = 0;
        while self.rollups.len() > MOST_ROLLUPS {
            self.rollups.pop_first();
            lost += 1;
        }
        lost
    }

    /// The file has what is for people.
    pub(super) fn history_written(&mut self) {
        self.incidents.clear();
        self.rollups.clear();
    }

    /// The file has what a later run has to know.
    pub(super) fn urgent_written(&mut self) {
        self.drills.clear();
        self.changed_orders.clear();
        self.changed_memories.clear();
        self.changed_alerts.clear();
        self.changed_commands.clear();
        self.changed_heartbeats.clear();
    }

    /// A new file has nothing.
    pub(super) fn begin_again(&mut self) {
        self.changed_orders.extend(self.orders.keys().cloned());
        self.changed_memories.extend(self.memories.keys().cloned());
        self.changed_alerts.extend(self.alerts.keys().cloned());
        self.changed_commands.extend(self.commands.keys().cloned());
        self.changed_heartbeats.extend(self.heartbeats.keys().cloned());
    }
}
