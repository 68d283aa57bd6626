//! A service as the status page and the commands show it.

use std::time::Duration;

use crate::fact::{Incident, ServiceId, ServiceState};

#[derive(Clone, Debug, PartialEq)]
pub struct ServiceView {
    pub state: ServiceState,
    /// How long the latest probe took.
    pub response_time: Option<Duration>,
    /// What is wrong with it, in a sentence.
    pub error: Option<String>,
    /// Its open incident.
    pub incident: Option<Incident>,
    /// The services that it depends on, declared or learned from its connections.
    pub depends_on: Vec<ServiceId>,
}
