//! What a receiver is to know of an incident.

use crate::{
    emit::Names,
    fact::{AlertSilence, Incident, ServiceId, Verdict},
};

/// An incident has opened, has changed, or is resolved.
#[derive(Clone, Debug)]
pub struct Alert {
    /// The incident as it is now.
    pub incident: Incident,
    /// The services' names in the configuration of the incident's time.
    pub names: Names,
    pub resolved: bool,
    /// It stands for several incidents; `incident` says what they have in common.
    pub summary: Option<Summary>,
    /// What hostprobe did last about it, in a sentence.
    pub done: Option<String>,
    /// Why it asks for no attention, where the receiver shows that.
    pub silence: Option<AlertSilence>,
    /// It only shows that alerts arrive.
    pub test: bool,
}

impl Alert {
    /// An alert about one incident.
    pub fn new(incident: Incident, names: Names, resolved: bool) -> Self {
        Self { incident, names, resolved, summary: None, done: None, silence: None, test: false }
    }

    /// The name of the service that it is about.
    pub fn service(&self) -> &str {
        self.names.service(self.incident.service)
    }
}

/// The incidents of a storm that a receiver gets one alert about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many are open.
    pub open: usize,
    /// How many are over, since the storm began.
    pub resolved: u64,
    /// The services with an open one, at most [`Self::SERVICES`].
    pub services: Vec<ServiceId>,
    /// How many open ones have each verdict, the most frequent first.
    pub verdicts: Vec<(Verdict, usize)>,
}

impl Summary {
    pub const SERVICES: usize = 64;
}

/// An alert with the wall-clock time at which its incident began. Conversions of one monotonic time differ when
/// the clock is set in between, and Alertmanager wants the same start in all messages about an alert.
#[derive(Clone, Debug)]
pub struct Notification {
    pub alert: Alert,
    pub since: jiff::Timestamp,
}
