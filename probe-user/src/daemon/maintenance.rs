//! The windows of maintenance: the wall clock opens and closes them.

use super::Daemon;
use crate::fact::{Observation, OperatorCommand, ServiceId};

impl Daemon {
    /// Lets the engine observe which windows open and close.
    pub(super) fn check_maintenance(&mut self) {
        let now = jiff::Timestamp::now();
        for at in 0..self.config.services.len() {
            let windows = self.config.services[at].maintenance.iter();
            let open = windows.filter_map(|window| Some((window.end(now)?, window.to_string())));
            // Of several that are open, the last to close counts.
            let (end, window) = open.max_by_key(|(end, _)| *end).unzip();
            if end != self.windows[at] {
                self.windows[at] = end;
                let id = ServiceId(u32::try_from(at).unwrap_or(u32::MAX));
                self.observe(Observation::Operator(id, OperatorCommand::Maintenance(window)));
            }
        }
    }
}
