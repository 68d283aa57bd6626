//! The stack's health, as the event stream reports it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{daemon::event_action, incident_events::text};

/// Which services are well and which incidents are open, event by event.
pub(super) struct Health {
    unwell: BTreeSet<String>,
    open: BTreeSet<String>,
    /// How many incidents must have been opened before it counts as calm.
    to_come: usize,
}

impl Health {
    /// As it is before the start: none of these services is well.
    pub fn of_none(services: &[&str]) -> Self {
        let unwell = services.iter().map(|&service| service.to_owned()).collect();
        Self { unwell, open: BTreeSet::new(), to_come: 0 }
    }

    /// As it is before a fault that opens so many incidents.
    pub fn of_all(to_come: usize) -> Self {
        Self { unwell: BTreeSet::new(), open: BTreeSet::new(), to_come }
    }

    /// Takes in an event; whether everything is well after it.
    pub fn is_calm_with(&mut self, event: &Value) -> bool {
        let service = text(event, "service.name").to_owned();
        match event_action(event) {
            "service.state" => {
                self.unwell.remove(&service);
                if text(event, "service.state") != "healthy" {
                    self.unwell.insert(service);
                }
            }
            "incident.open" => {
                self.to_come = self.to_come.saturating_sub(1);
                self.open.insert(service);
            }
            "incident.resolve" => {
                self.open.remove(&service);
            }
            _ => {}
        }
        self.to_come == 0 && self.unwell.is_empty() && self.open.is_empty()
    }
}
