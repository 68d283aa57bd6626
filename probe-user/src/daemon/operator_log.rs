//! What an operator reads in the log: incidents, restarts, holds, alerts that fail, and reloads.
//!
//! The event stream has all of it and more. The log has what a person acts on, each line with its service first.

use std::collections::HashMap;

use tracing::{error, info, warn};

use crate::{
    emit::{Names, Origin},
    fact::{Action, AlertOutcome, Fact, Incident, IncidentId, Phase, Restart, Severity, Verdict},
    redact::redact,
};

/// Writes the facts that matter to an operator to the log.
pub(super) struct OperatorLog {
    origin: Origin,
    names: Names,
    /// What was logged last of each open incident: an update that changes neither is not worth a line.
    open: HashMap<IncidentId, (Verdict, Severity)>,
}

impl OperatorLog {
    pub(super) fn new(origin: Origin, names: Names) -> Self {
        Self { origin, names, open: HashMap::new() }
    }

    /// Writes a line if the fact is one for operators.
    pub(super) fn on_fact(&mut self, fact: &Fact) {
        match fact {
            Fact::Incident(phase, incident) => self.on_incident(*phase, incident),
            Fact::Restart(restart) => self.on_restart(restart),
            Fact::Alert(outcome) => self.on_alert(outcome),
            Fact::AgentReload(Some(refused)) => {
                error!("hostprobe: the running configuration stays: {refused}")
            }
            Fact::AgentReload(None) => info!("hostprobe: the configuration was reloaded"),
            _ => {}
        }
    }

    fn on_incident(&mut self, phase: Phase, incident: &Incident) {
        let service = self.names.service(incident.service);
        let id = self.origin.incident_id(incident.id);
        let now = (incident.verdict, incident.severity);
        let became = match phase {
            Phase::Open => "opened",
            Phase::Update if self.open.get(&incident.id) == Some(&now) => return,
            Phase::Update => "changed",
            Phase::Resolve => {
                self.open.remove(&incident.id);
                let after =
                    incident.timing.healthy.map_or(String::new(), |after| format!(" after {after:.1?}"));
                let restarts = match incident.attempts {
                    0 => "without a restart".to_owned(),
                    1 => "with 1 restart".to_owned(),
                    more => format!("with {more} restarts"),
                };
                return info!(
                    "{service}: incident {id} resolved{after}, {restarts}: {}",
                    incident.verdict.as_str()
                );
            }
        };
        self.open.insert(incident.id, now);
        let line = format!(
            "{service}: incident {id} {became}: {}: {}",
            incident.verdict.as_str(),
            redact(&incident.summary)
        );
        match incident.severity {
            Severity::Critical => error!("{line}"),
            Severity::Warning => warn!("{line}"),
            Severity::Info => info!("{line}"),
        }
    }

    fn on_restart(&self, restart: &Restart) {
        let service = self.names.service(restart.service);
        let (method, attempt) = (restart.method.as_str(), restart.attempt);
        match &restart.action {
            Action::Request => {
                info!("{service}: restart {attempt} requested by {method}: {}", redact(&restart.reason));
            }
            Action::Done => info!("{service}: restart {attempt} done by {method}"),
            Action::Fail(why) => error!("{service}: restart {attempt} by {method} failed: {}", redact(why)),
            Action::Hold(why) => warn!("{service}: restart held: {}", redact(why)),
        }
    }

    fn on_alert(&self, outcome: &AlertOutcome) {
        let Some(why) = &outcome.error else { return };
        let (service, id) = (self.names.service(outcome.service), self.origin.incident_id(outcome.incident));
        warn!(
            "{service}: alert of incident {id} was not delivered to {} (attempt {}): {}",
            outcome.receiver,
            outcome.attempts,
            redact(why)
        );
    }
}
