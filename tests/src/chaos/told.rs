//! Whether each receiver was told of each incident and of its end.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use crate::survival::relay::Relay;

/// A storm of incidents is told as one summary, and that within this time of each of them.
const SUMMARY: Duration = Duration::from_secs(150);

/// What a receiver was told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// The messages it got.
    pub messages: usize,
    /// Those of them that it got again.
    pub again: usize,
    /// Incidents that it knows of from a summary only.
    pub by_summary: usize,
}

/// Compares what a receiver got with the incidents that are due, and the times of their openings.
pub(super) fn judge(
    name: &str,
    relay: &Relay,
    due: &BTreeMap<String, SystemTime>,
    wrong: &mut Vec<String>,
) -> Told {
    let (firing, resolved, storms) = (relay.incidents("firing"), relay.incidents("resolved"), relay.storms());
    let mut told = Told::default();
    for (id, opened) in due.iter().filter(|(id, _)| !firing.contains_key(*id)) {
        let is_in_summary =
            storms.iter().any(|at| at.duration_since(*opened).is_ok_and(|after| after < SUMMARY));
        if is_in_summary {
            told.by_summary += 1;
        } else {
            wrong.push(format!("{name} was not told of the incident {id}"));
        }
    }
    for id in firing.keys().filter(|id| !resolved.contains_key(*id)) {
        wrong.push(format!("{name} was not told the end of the incident {id}"));
    }
    for times in firing.values().chain(resolved.values()) {
        told.messages += times;
        told.again += times - 1;
    }
    told
}
