//! Events about runs of the user's own programs.

use super::{Renderer, millis, room, rounded};
use crate::{
    emit::wire::{self, Level, Outcome, Record},
    fact::HookRun,
};

impl Renderer<'_> {
    pub(super) fn hook(&self, record: &mut Record, run: &HookRun) {
        let service = self.names.service(run.service);
        let (event, command) = (run.event.as_str(), &run.command);
        (record.event.outcome, record.log.level, record.message) = match &run.error {
            None => {
                let took = rounded(run.duration);
                (Outcome::Success, Level::Info, format!("{service}: hook {command} for {event} took {took}"))
            }
            Some(why) => {
                record.error = Some(self.error(why));
                (
                    Outcome::Failure,
                    Level::Error,
                    format!("{service}: hook {command} for {event} failed: {why}"),
                )
            }
        };
        record.service = Some(self.service(run.service));
        record.incident = run.incident.map(|id| self.incident_id(id));
        record.hook = Some(wire::Hook {
            event: event.to_owned(),
            command: self.text(command, room::PATH),
            duration_ms: millis(run.duration),
            exit_code: run.exit_code,
        });
    }
}
