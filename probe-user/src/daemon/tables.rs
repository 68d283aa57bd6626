//! How full the daemon's tables are, for the metrics: what is kept of a host's processes must not grow with their coming
//! and going.

use std::time::Duration;

use super::Daemon;
use crate::clock::Timestamp;

/// The tables are measured this often: to count what the kernel side keeps is to look at all of it.
const INTERVAL: Duration = Duration::from_secs(10);

impl Daemon {
    /// Notes how full the tables are, now and then, and has the kernel side tidy up its own.
    pub(super) fn measure_tables(&mut self) {
        let now = Timestamp::now();
        if now.since(self.measured) < INTERVAL {
            return;
        }
        self.measured = now;
        let metrics = self.publisher.metrics();
        let sizes = self.enricher.sizes().into_iter().chain(self.publisher.sizes());
        for (table, entries, limit) in sizes.chain([self.sockets.size()]) {
            metrics.table(table, entries, limit);
        }
        if let Err(error) = self.sensors.sweep() {
            tracing::error!(%error, "sensors: could not drop what is no longer watched from the prefilter");
        }
        metrics.exits_elsewhere(self.sensors.exits_elsewhere());
    }
}
