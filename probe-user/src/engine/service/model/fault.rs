//! A fault, before it becomes an incident.

use crate::{
    clock::Timestamp,
    engine::verdict::{Finding, Remedy},
    fact::{Actor, EventId, ServiceId},
};

#[derive(Clone, Debug)]
pub struct Fault {
    /// When it happened.
    pub since: Timestamp,
    /// When the daemon learned of it.
    pub detected: Timestamp,
    pub finding: Finding,
    pub evidence: Vec<EventId>,
    /// What could mend it.
    pub remedy: Remedy,
    /// The other service that causes it.
    pub cause: Option<ServiceId>,
    /// The cause's incident alerts.
    pub cause_alerts: bool,
    pub urgent: bool,
    /// The service works, but not as it should.
    pub degraded: bool,
    /// The process exited with an error soon after its start, perhaps because its port was taken.
    pub early_exit: bool,
    /// Memory ran out, and something ended a process for that.
    pub oom: bool,
    /// Who caused it from outside.
    pub actor: Option<Box<Actor>>,
    /// The ids of evidence in another host's stream.
    pub foreign_evidence: Vec<String>,
}

impl Fault {
    /// A fault at this moment, without an event, that a restart may mend.
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
            early_exit: false,
            oom: false,
            actor: None,
            foreign_evidence: Vec::new(),
        }
    }
}
