//! Events about commands of operators.

use super::{Renderer, room, wall};
use crate::{
    emit::wire::{self, Level, Outcome, Record},
    fact::{CommandKind, OperatorReport, User},
};

impl Renderer<'_> {
    pub(super) fn operator(&self, record: &mut Record, report: &OperatorReport) {
        let order = &report.order;
        let subject = match (report.service, report.incident) {
            (_, Some(incident)) => self.origin.incident_id(incident),
            (Some(service), None) => self.names.service(service).to_owned(),
            (None, None) if order.kind == CommandKind::Reload => "the configuration".to_owned(),
            (None, None) => "all services".to_owned(),
        };
        (record.event.outcome, record.log.level, record.message) = match &report.error {
            None => (Outcome::Success, Level::Info, format!("{subject}: {}", report.words())),
            Some(why) => {
                let command = order.kind.as_str();
                (Outcome::Failure, Level::Warn, format!("{subject}: {command} by {} failed: {why}", order.by))
            }
        };
        record.error = report.error.as_ref().map(|why| self.error(why));
        record.event.reason = order.reason.as_ref().map(|reason| self.text(reason, room::DETAIL));
        record.service = report.service.map(|service| self.service(service));
        record.incident = report.incident.map(|incident| self.incident_id(incident));
        record.user = Some(self.user(&order.by.user));
        record.operator = Some(wire::Operator {
            command: order.kind.into(),
            fault: report.fault.map(Into::into),
            login: order.by.login.as_ref().map(|login| self.user(login)),
            until: order.until.map(wall),
        });
    }

    fn user(&self, user: &User) -> wire::User {
        wire::User { id: user.id.to_string(), name: user.name.as_ref().map(|name| self.foreign_name(name)) }
    }
}
