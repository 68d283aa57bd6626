//! How full the daemon's tables are, for the metrics: they must not grow as processes come and go.

use std::time::Duration;

use super::Daemon;
use crate::clock::Timestamp;

/// The tables are measured this often: to count the lineages is to read all of their map.
const INTERVAL: Duration = Duration::from_secs(10);

impl Daemon {
    /// Measures the tables when that is due, and sweeps the prefilter.
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
