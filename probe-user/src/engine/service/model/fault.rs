//! What went wrong, before it has become an incident.

use crate::{
    clock::Timestamp,
    engine::verdict::{Finding, Remedy},
    fact::{EventId, ServiceId},
};

#[derive(Clone, Debug)]
pub struct Fault {
    /// When it happened.
    pub since: Timestamp,
    /// When the daemon knew of it.
    pub detected: Timestamp,
    pub finding: Finding,
    pub evidence: Vec<EventId>,
    /// What could mend it.
    pub remedy: Remedy,
    /// The other service that causes it.
    pub cause: Option<ServiceId>,
    /// The cause's incident alerts.
    pub cause_alerts: bool,
    /// It alerts at once.
    pub urgent: bool,
    /// The service works, if not as it should.
    pub degraded: bool,
    /// It ended with an error soon after its start: perhaps it did not get its port.
    pub young: bool,
}

impl Fault {
    /// A fault of this moment that no event shows, and that a restart may mend.
    pub fn now(now: Timestamp, finding: Finding) -> Self {
        Self {
            since: now,
            detected: now,
            finding,
            evidence: Vec::new(),
            remedy: Remedy::Restart,
            cause: None,
            cause_alerts: false,
            urgent: false,
            degraded: false,
            young: false,
        }
    }
}
