//! What hostprobe did last about each incident, for those who are alerted.

use std::collections::{BTreeMap, VecDeque};

use crate::fact::{Action, Fact, IncidentId, Phase, Restart};

/// The incidents that are remembered, the latest.
const MOST: usize = 256;

#[derive(Debug, Default)]
pub(super) struct LastActions {
    by_incident: BTreeMap<IncidentId, String>,
    /// The incidents in the order of their first action.
    order: VecDeque<IncidentId>,
}

impl LastActions {
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other facts are no actions")]
    pub(super) fn on_fact(&mut self, fact: &Fact) {
        match fact {
            Fact::Restart(restart) => self.on_restart(restart),
            // An alert of its end follows.
            Fact::Incident(Phase::Open, incident) => _ = self.by_incident.remove(&incident.id),
            _ => {}
        }
    }

    fn on_restart(&mut self, restart: &Restart) {
        let Some(incident) = restart.incident else { return };
        if self.by_incident.insert(incident, words(restart)).is_none() {
            self.order.push_back(incident);
        }
        while self.order.len() > MOST {
            if let Some(oldest) = self.order.pop_front() {
                self.by_incident.remove(&oldest);
            }
        }
    }

    /// In a sentence.
    pub(super) fn of(&self, incident: IncidentId) -> Option<String> {
        self.by_incident.get(&incident).cloned()
    }
}

fn words(restart: &Restart) -> String {
    let (method, attempt) = (restart.method.as_str(), restart.attempt);
    match &restart.action {
        Action::Request => format!("restart {attempt}, by {method}, was requested"),
        Action::Done => format!("restart {attempt}, by {method}, was carried out"),
        Action::Fail(why) => format!("restart {attempt}, by {method}, failed: {why}"),
        Action::Hold(why) if attempt > 1 => format!("no further restart: {why}"),
        Action::Hold(why) => format!("no restart: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{RestartMethod, ServiceId};

    fn restart(number: u64, action: Action) -> Fact {
        Fact::Restart(Restart {
            service: ServiceId(0),
            incident: Some(IncidentId::new(number)),
            method: RestartMethod::Systemd,
            attempt: 1,
            reason: "api was killed".to_owned(),
            budget_left: 4,
            action,
        })
    }

    #[test]
    fn the_last_action_of_an_incident_is_known_and_old_incidents_are_forgotten() {
        let mut actions = LastActions::default();
        actions.on_fact(&restart(1, Action::Request));
        actions.on_fact(&restart(1, Action::Fail("the job timed out".to_owned())));
        let last = actions.of(IncidentId::new(1)).unwrap();
        assert_eq!(last, "restart 1, by systemd, failed: the job timed out");
        (2..=MOST as u64 + 1).for_each(|number| actions.on_fact(&restart(number, Action::Done)));
        assert_eq!(actions.of(IncidentId::new(1)), None);
        assert_eq!(actions.by_incident.len(), MOST);
    }
}
