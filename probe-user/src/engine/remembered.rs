//! What an earlier run of the daemon knew of something that this run does not have.

use super::{
    effect::{Effect, Effects},
    service::end_unknown,
};
use crate::{
    clock::Timestamp,
    fact::{Memory, ServiceId},
};

/// Ends the incident of a service that is not configured any more, or of the earlier run of the daemon itself.
pub(super) fn forget(id: ServiceId, memory: Memory, now: Timestamp, effects: &mut impl Effects) {
    let why = if id == ServiceId::DAEMON {
        "hostprobe was started again"
    } else {
        "the configuration does not have it any more"
    };
    for incident in memory.incident.into_iter().chain(memory.further) {
        end_unknown(incident, why, now, effects);
    }
    effects.request(Effect::KeepMemory { service: id, memory: Box::default() });
}
