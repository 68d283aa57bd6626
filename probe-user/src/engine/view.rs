//! A service for the status page and the commands.

use std::time::Duration;

use crate::{
    clock::Timestamp,
    fact::{Incident, Order, Orders, ProcessKey, ServiceGrowth, ServiceId, ServiceState},
};

#[derive(Clone, Debug, PartialEq)]
pub struct ServiceView {
    pub service: ServiceId,
    pub state: ServiceState,
    /// Its main process, if one is known.
    pub main: Option<ProcessKey>,
    pub response_time: Option<Duration>,
    /// The error in a sentence.
    pub error: Option<String>,
    /// The open incident.
    pub incident: Option<Incident>,
    /// The services that it depends on, declared or learned from its connections.
    pub depends_on: Vec<ServiceId>,
    /// Since when its state is only the last known one, because hostprobe cannot probe or restart it.
    pub stale_since: Option<Timestamp>,
    /// The operator's orders in force.
    pub orders: Orders,
    /// The open window of its maintenance.
    pub maintenance: Option<String>,
    /// The operator's acknowledgement of the incident.
    pub acknowledged: Option<Order>,
    /// Its resources that grow steadily towards their limits.
    pub growth: Vec<ServiceGrowth>,
}
