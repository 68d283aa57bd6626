//! Events about the host itself.

use super::{Renderer, millis, room};
use crate::{
    emit::wire::{self, Level, Outcome, Record},
    fact::{HostState, HostSubject, ServiceId},
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
            ..self.host_check(&reading.subject)
        });
    }

    pub(super) fn host_check(&self, subject: &HostSubject) -> wire::HostCheck {
        let target = (!subject.target.is_empty()).then(|| self.text(&subject.target, room::PATH));
        wire::HostCheck { name: subject.check.into(), target, value: None, limit: None, time_left_ms: None }
    }
}

/// To a tenth.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
