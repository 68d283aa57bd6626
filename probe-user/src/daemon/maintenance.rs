//! The windows of maintenance: the wall clock opens and closes them.

use super::Daemon;
use crate::fact::{Observation, OperatorCommand};

impl Daemon {
    /// Lets the engine observe which windows open and close.
    pub(super) fn check_maintenance(&mut self) {
        for (id, window) in self.windows.changes(&self.config.services, jiff::Timestamp::now()) {
            let name = &self.config.services[id.0 as usize].name;
            match &window {
                Some(window) => {
                    tracing::info!("{name}: maintenance begins ({window}): no restarts, no alerts")
                }
                None => tracing::info!("{name}: maintenance ends"),
            }
            self.observe(Observation::Operator(id, OperatorCommand::Maintenance(window)));
        }
    }
}
