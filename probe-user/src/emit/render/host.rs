//! Events about the host itself.

use super::{Renderer, millis, room};
use crate::{
    emit::wire::{self, Level, Outcome, Record},
    fact::{HostFault, HostState, HostSubject, ServiceId},
};

impl Renderer<'_> {
    pub(super) fn host_state(&self, record: &mut Record, state: &HostState) {
        let reading = &state.reading;
        (record.event.outcome, record.log.level) = match (state.is_well, reading.exhausted) {
            (true, _) => (Outcome::Success, Level::Info),
            (false, false) => (Outcome::Failure, Level::Warn),
            (false, true) => (Outcome::Failure, Level::Error),
        };
        record.event.provider = reading.source.into();
        record.event.reason = Some(self.text(&reading.words, room::DETAIL));
        record.message = format!("{}: {}", self.names.service(ServiceId::HOST), reading.words);
        record.service = Some(self.service(ServiceId::HOST));
        record.host_check = Some(wire::HostCheck {
            value: Some(rounded(reading.value)),
            limit: Some(rounded(reading.limit)),
            time_left_ms: reading.time_left.map(millis),
            fault: reading.fault.as_deref().map(|fault| self.host_fault(fault)),
            ..self.host_check(&reading.subject)
        });
    }

    pub(super) fn host_check(&self, subject: &HostSubject) -> wire::HostCheck {
        let target = (!subject.target.is_empty()).then(|| self.text(&subject.target, room::PATH));
        let name = subject.check.into();
        wire::HostCheck { name, target, value: None, limit: None, time_left_ms: None, fault: None }
    }

    fn host_fault(&self, fault: &HostFault) -> wire::HostFault {
        let task = fault.task.as_ref();
        let short = |text: &Option<String>| text.as_ref().map(|text| self.text(text, room::NAME));
        wire::HostFault {
            pid: task.map(|task| task.pid),
            thread_id: task.and_then(|task| task.tid),
            process: task.map(|task| self.foreign_name(&task.name)),
            operation: short(&fault.operation),
            sector: fault.sector,
            bytes: fault.bytes,
            error: short(&fault.error),
            address: fault.address.map(|address| format!("{address:#x}")),
            place: short(&fault.place),
        }
    }
}

/// To a tenth.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
