//! What a receiver is to know of an incident.

use crate::{emit::Names, fact::Incident};

/// An incident has opened, has changed, or is resolved.
#[derive(Clone, Debug)]
pub struct Alert {
    /// The incident as it is now.
    pub incident: Incident,
    /// The services' names in the configuration of the incident's time.
    pub names: Names,
    pub resolved: bool,
}

/// An alert with the wall-clock time at which its incident began. Conversions of one monotonic time differ when
/// the clock is set in between, and Alertmanager wants the same start in all messages about an alert.
#[derive(Clone, Debug)]
pub struct Notification {
    pub alert: Alert,
    pub since: jiff::Timestamp,
}
