//! What went wrong, before it has become an incident.

use super::{Finding, Remedy};
use crate::{
    clock::Timestamp,
    fact::{EventId, ServiceId},
};

/// Evidence of a fault, before it has become an incident.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// When it happened.
    pub(super) since: Timestamp,
    /// When the daemon knew of it.
    pub(super) detected: Timestamp,
    pub(super) finding: Finding,
    pub(super) evidence: Vec<EventId>,
    /// What could mend it.
    pub(super) remedy: Remedy,
    /// The service at whose door the cause lies, if that is another one.
    pub(super) cause: Option<ServiceId>,
    /// Nobody is told of it, because they are told of its cause.
    pub(super) untold: bool,
    /// Somebody is told at once.
    pub(super) urgent: bool,
    /// It works, if not as it should.
    pub(super) degraded: bool,
    /// It ended with an error soon after its start: perhaps it did not get its port.
    pub(super) young: bool,
}

impl Fault {
    /// A fault of this moment that no event shows, and that a restart may mend.
    pub(super) fn now(now: Timestamp, finding: Finding) -> Self {
        Self {
            since: now,
            detected: now,
            finding,
            evidence: Vec::new(),
            remedy: Remedy::Restart,
            cause: None,
            untold: false,
            urgent: false,
            degraded: false,
            young: false,
        }
    }
}
