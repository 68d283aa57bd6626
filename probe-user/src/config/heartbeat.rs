//! A job that is to report in.

use std::time::Duration;

use super::secret::Secret;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// What the job calls itself. No two heartbeats have one name.
    pub name: String,
    /// The longest time between two reports.
    pub every: Duration,
    /// How much later than that a report may come.
    pub grace: Duration,
    /// What a report over HTTP has to bring along.
    pub token: Option<Secret>,
}
