//! Where the threads of a service that hangs are, beside its snapshot and within its time.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    bounded_thread::OneAtATime,
    fact::ProcessKey,
    host::ProcReader,
    stacks::{Collected, ServiceNames, collect},
};

/// What remains of the time for the end of a collection that is late: the names of functions are left out then.
const REST: Duration = Duration::from_millis(500);

/// Looks at one service at a time: files of a user may keep its thread busy for long, and no second one is started then.
#[derive(Clone, Debug, Default)]
pub struct HangInspector {
    turns: OneAtATime,
}

impl HangInspector {
    /// The stacks of a service's threads. None if they are not wanted, or if there is no answer in time.
    pub(crate) async fn stacks(
        &self,
        reader: &ProcReader,
        main: ProcessKey,
        services: ServiceNames,
        wanted: bool,
        patience: Duration,
    ) -> Option<Collected> {
        if !wanted {
            return None;
        }
        let until = Instant::now() + patience.saturating_sub(REST);
        let reader = reader.clone();
        let collect = move || {
            let pids = reader.process_tree().of(main.pid);
            let host = reader.proc().parent().unwrap_or(Path::new("/"));
            collect(&reader, host, &pids, &services, until)
        };
        let found = self.turns.answer("stacks", patience, collect).await;
        let found = found.inspect_err(|error| {
            tracing::warn!("pid {}: the stacks of its threads are unknown: {error}", main.pid);
        });
        found.ok().filter(|found| !found.lines.is_empty())
    }
}
