//! Which decisions a replay compares.

use std::{collections::BTreeMap, time::Duration};

use super::ledger::TimedDecision;
use crate::fact::is_incident_meant;

/// The wall clock of a replay is reckoned from the recorded lines, which may be off by the time that it was set by.
const SLACK: Duration = Duration::from_millis(100);

/// Which decisions a replay compares. It always replays a run from its start.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Those since this moment.
    pub since: Option<jiff::Timestamp>,
    /// Those about the service of this incident, from its beginning to its end: its id, or the number at the end of it.
    pub incident: Option<String>,
}

/// The moments between which decisions about a service count; without the second, all later ones do.
type Window = (jiff::Timestamp, Option<jiff::Timestamp>);

impl Scope {
    /// Leaves the decisions of one run that are in the scope, then and now. False if nothing of this run, which ended
    /// at `end`, is in the scope.
    pub(super) fn narrow(&self, sides: [&mut Vec<TimedDecision>; 2], end: &str) -> bool {
        let is_over = |since| end.parse::<jiff::Timestamp>().is_ok_and(|end| end < since);
        if self.since.is_some_and(is_over) {
            return false;
        }
        let windows = self.incident.as_deref().map(|incident| windows(incident, sides[0].as_slice()));
        if windows.as_ref().is_some_and(BTreeMap::is_empty) {
            return false;
        }
        for side in sides {
            side.retain(|timed| {
                let at = timed.at();
                self.since.is_none_or(|since| at >= since)
                    && windows.as_ref().is_none_or(|windows| {
                        windows.get(&timed.decision.service).is_some_and(|window| is_within(*window, at))
                    })
            });
        }
        true
    }
}

/// When the recorded decisions of an incident were made, by service.
fn windows(incident: &str, recorded: &[TimedDecision]) -> BTreeMap<String, Window> {
    let is_meant = |id: &str| is_incident_meant(incident, id);
    let mut windows = BTreeMap::new();
    for timed in recorded {
        let decision = &timed.decision;
        if decision.incident.as_deref().is_some_and(is_meant) {
            let (_, end) = windows.entry(decision.service.clone()).or_insert((timed.at(), None));
            if decision.is_resolve() {
                *end = Some(timed.at());
            }
        }
    }
    windows
}

fn is_within((start, end): Window, at: jiff::Timestamp) -> bool {
    at + SLACK >= start && end.is_none_or(|end| at <= end + SLACK)
}
