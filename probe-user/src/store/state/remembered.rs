//! What an earlier run of the daemon has left.

use std::collections::{BTreeMap, BTreeSet};

use super::kept::{Saved, SavedAlert};
use crate::{
    act::{alert::KeptAlert, supervisor::RunningCommand},
    emit::{Names, Origin},
    fact::{Memory, Observation, Orders, ServiceId},
    probe::heartbeat::KeptBeat,
    store::history::Timeline,
};

#[derive(Debug, Default)]
pub struct Remembered {
    /// The orders in force, by service.
    pub orders: BTreeMap<String, Orders>,
    /// The incidents that are open.
    pub open: Vec<Timeline>,
    /// The latest reports of jobs, by heartbeat.
    pub heartbeats: BTreeMap<String, KeptBeat>,
    /// The commands that ran, by service.
    pub commands: BTreeMap<String, RunningCommand>,
    pub(super) memories: Vec<Saved<Observation>>,
    /// By receiver and number.
    pub(super) alerts: BTreeMap<(String, u64), Saved<SavedAlert>>,
}

impl Remembered {
    /// The services that memories, alerts and commands are about.
    pub fn services(&self) -> BTreeSet<&str> {
        let memories = self.memories.iter().flat_map(Saved::names);
        let alerts = self.alerts.values().flat_map(Saved::names);
        memories.chain(alerts).chain(self.commands.keys()).map(String::as_str).collect()
    }

    /// The memories, once all of these services have an id.
    pub fn take_memories(&mut self, names: &Names, origin: &Origin) -> Vec<(ServiceId, Memory)> {
        self.memories.drain(..).filter_map(|memory| memory.place(names, origin)).collect()
    }

    /// The alerts by receiver, once all of these services have an id.
    pub fn take_alerts(&mut self, names: &Names, origin: &Origin) -> BTreeMap<String, Vec<KeptAlert>> {
        let mut all: BTreeMap<String, Vec<KeptAlert>> = BTreeMap::new();
        for ((receiver, number), alert) in std::mem::take(&mut self.alerts) {
            let placed = alert.place(number, names, origin);
            all.entry(receiver).or_default().extend(placed);
        }
        all
    }
}
