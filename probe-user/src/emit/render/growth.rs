//! Events about resources that run out.

use super::{Renderer, millis, room};
use crate::{
    emit::wire::{self, Level, Outcome, Record},
    fact::{ServiceGrowth, ServiceId},
};

impl Renderer<'_> {
    pub(super) fn growth(&self, record: &mut Record, growth: &ServiceGrowth, service: ServiceId) {
        record.message = format!("{}: {}", self.names.service(service), growth.words());
        record.event.outcome = Outcome::Failure;
        record.log.level = Level::Warn;
        record.service = Some(self.service(service));
        let forecast = &growth.forecast;
        record.growth = Some(wire::Growth {
            resource: growth.resource.into(),
            limit: self.text(&growth.limit, room::PATH),
            used: forecast.used as u64,
            ceiling: forecast.ceiling as u64,
            per_hour: forecast.per_hour as u64,
            left_ms: millis(forecast.left),
            earliest_ms: millis(forecast.earliest),
            latest_ms: millis(forecast.latest),
            over_ms: millis(forecast.over),
        });
    }
}
