//! The end of the daemon.

use std::time::Duration;

use super::Daemon;
use crate::{clock::Timestamp, fact::Fact, process::deadline};

/// How long events may take to be written out at the end.
const FLUSH: Duration = Duration::from_secs(2);

impl Daemon {
    /// Ends everything that was started, and writes out what there is to say.
    ///
    /// Exits from now on are caused by the daemon's own end: they are published, and the engine observes none.
    pub async fn stop(mut self, why: String) {
        self.notifier.stopping(deadline::after(self.executor.longest_stop(&self.config)));
        self.abandon_drill();
        self.stopping = true;
        // What is held or not written yet must not wait for the end of the services.
        self.publisher.release();
        self.publisher.write_logs();
        self.publisher.keep_rollups();
        self.executor.stop(&self.config, &self.enricher).await;
        if let Some(run) = &self.last_run {
            run.end();
        }
        self.drain_sensors();
        for (service, exit) in std::mem::take(&mut self.early) {
            self.publish_early(service, exit);
        }
        self.publish_losses();
        self.publisher.publish(Fact::AgentStop(why), Timestamp::now());
        self.publisher.flush(FLUSH).await;
    }
}
