//! What came of a drill.

use super::{Daemon, drill_state::RunningDrill, drill_timeline::DrillTimeline};
use crate::fact::{DrillFault, DrillOutcome, DrillReport};

impl Daemon {
    pub(super) fn keep_drill(&self, drill: &RunningDrill, outcome: DrillOutcome) {
        // Nothing waits for the beginning of a drill.
        drop(self.publisher.keep_drill(self.report_of(drill, outcome)));
    }

    pub(super) fn report_of(&self, drill: &RunningDrill, outcome: DrillOutcome) -> DrillReport {
        let timeline = self.publisher.timeline();
        let asked = drill.caused.unwrap_or(drill.order.since);
        // The kernel kills for memory some time after the limit fell.
        let killed = timeline.and_then(|timeline| timeline.since).filter(|since| *since > asked);
        let fault = killed.filter(|_| drill.fault == DrillFault::Oom).unwrap_or(asked);
        let times = timeline.map(|timeline| timeline.times(fault)).unwrap_or_default();
        let incident = timeline.and_then(|timeline| timeline.incident);
        DrillReport {
            id: drill.id.clone(),
            service: drill.name.clone(),
            fault: drill.fault,
            by: drill.order.by.to_string(),
            reason: drill.order.reason.clone(),
            began: format!("{:.6}", fault.to_wall()),
            outcome,
            incident: incident.map(|incident| self.origin.incident_id(incident)),
            verdict: timeline.and_then(|it| it.verdict).map(|verdict| verdict.as_str().to_owned()),
            detected_ms: times.detected,
            decided_ms: times.decided,
            acted_ms: times.acted,
            recovered_ms: times.recovered,
            alerted_ms: times.alerted,
            steps: timeline.map(|timeline| timeline.steps(fault)).unwrap_or_default(),
            notes: self.notes(timeline, outcome),
        }
    }

    fn notes(&self, timeline: Option<&DrillTimeline>, outcome: DrillOutcome) -> Vec<String> {
        let mut notes = Vec::new();
        let Some(timeline) = timeline else { return notes };
        if self.config.alerts.is_empty() {
            notes.push("no receiver of alerts is configured".to_owned());
        } else if timeline.resolved.is_some() && timeline.alerts_requested == 0 {
            notes.push(
                "no receiver was to be alerted: an incident that is over before its alert is due is of severity info, and \
                 min_severity of the receivers is higher"
                    .to_owned(),
            );
        } else if timeline.alerts_owed > 0 && outcome != DrillOutcome::Unfinished {
            notes.push(format!("{} alerts were not accepted in time", timeline.alerts_owed));
        }
        if timeline.incident.is_none() && outcome == DrillOutcome::NotRecovered {
            notes.push("no incident was opened: hostprobe did not see the fault".to_owned());
        }
        if timeline.left_out > 0 {
            notes.push(format!("{} further steps are left out", timeline.left_out));
        }
        notes
    }
}
