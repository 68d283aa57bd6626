//! What the file should have, and which part of it the file does not have yet.

use std::collections::{BTreeMap, BTreeSet};

use super::queue::Job;
use crate::{fact::Orders, store::history::Timeline};

/// The most incidents that wait while the file cannot be written.
const MOST_INCIDENTS: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Pending {
    /// All orders in force, by service.
    pub(super) orders: BTreeMap<String, Orders>,
    /// The services whose orders the file does not have yet.
    pub(super) changed_orders: BTreeSet<String>,
    /// The incidents that the file does not have yet, as they are now.
    pub(super) incidents: Vec<Timeline>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.changed_orders.is_empty() && self.incidents.is_empty()
    }

    /// Takes in a change. Returns how many incidents were lost for want of room.
    pub(super) fn take(&mut self, job: Job) -> u64 {
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
            Job::Incident(timeline) => self.take_incident(*timeline),
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

    /// The file has everything.
    pub(super) fn written(&mut self) {
        self.changed_orders.clear();
        self.incidents.clear();
    }

    /// A new file has nothing.
    pub(super) fn begin_again(&mut self) {
        self.changed_orders.extend(self.orders.keys().cloned());
    }
}
