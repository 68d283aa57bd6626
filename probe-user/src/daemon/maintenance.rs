//! The windows of maintenance: the wall clock opens and closes them.

use std::sync::Arc;

use super::Daemon;
use crate::fact::{Observation, OperatorCommand};

impl Daemon {
    /// Lets the engine observe which windows open and close.
    pub(super) fn check_maintenance(&mut self) {
        let config = Arc::clone(&self.config);
        for (id, window) in self.windows.changes(&config.services, jiff::Timestamp::now()) {
            let name = config.name_of(id);
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
