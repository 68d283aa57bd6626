//! A storm of alerts: the first openings within a minute go to the receiver at once, further ones become one summary a
//! minute.
//!
//! A receiver that got an incident's opening gets its updates and its end. One that knows an incident from a summary
//! only learns of its end from a summary too. The summary itself is one alert with a key of its own, which is resolved
//! once all its incidents are. An alert about hostprobe itself is never summarised.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::super::{
    kept::{Change, Delivery, KeptAlert},
    notification::{Alert, Notification, Summary},
};
use crate::{
    clock::Timestamp,
    fact::{Earlier, Incident, IncidentId, ServiceId, Timing, Verdict},
};

/// The openings that go to a receiver at once within [`MINUTE`].
const AT_ONCE: usize = 10;

/// The open incidents that a summary counts at most.
const MOST: usize = 1000;

const MINUTE: Duration = Duration::from_secs(60);

/// The first summary of a storm waits for this long, so that it covers most of the storm.
const FIRST: Duration = Duration::from_secs(10);

/// The id of the summary. Incidents count from 1.
pub(super) const SUMMARY: IncidentId = IncidentId::new(0);

pub(super) enum Admitted {
    /// It goes to the receiver by itself.
    Yes(Alert),
    /// The next summary counts it. The change is to be kept.
    Summarised(Change),
    /// There are too many to count.
    Dropped(Alert),
}

#[derive(Debug, Default)]
pub(super) struct Storm {
    /// When openings went to the receiver, the latest ones.
    at_once: VecDeque<Instant>,
    /// The open incidents that the receiver knows from a summary only, or not yet. Each has a number in its outbox.
    open: BTreeMap<IncidentId, (u64, Alert)>,
    /// The worst alert of those that are over, and how many are over.
    over: Option<(Alert, u64)>,
    since: Option<Timestamp>,
    /// When the summary has something new to say and may say it.
    due: Option<Instant>,
    /// When the latest summary was queued.
    last: Option<Instant>,
}

impl Storm {
    /// Takes in an alert; `is_known` if the receiver gets alerts about this incident itself. `last_number` is the
    /// outbox's.
    pub(super) fn admit(
        &mut self,
        alert: Alert,
        is_known: bool,
        last_number: &mut u64,
        now: Instant,
    ) -> Admitted {
        let id = alert.incident.id;
        if let Some(number) = self.open.get(&id).map(|(number, _)| *number) {
            self.change(now);
            if alert.resolved {
                self.open.remove(&id);
                let (worst, count) = self.over.take().unwrap_or_else(|| (alert.clone(), 0));
                let worst = if alert.incident.severity > worst.incident.severity { alert } else { worst };
                self.over = Some((worst, count + 1));
                return Admitted::Summarised(Change::Remove(number));
            }
            return Admitted::Summarised(self.insert(number, alert));
        }
        if is_known || alert.resolved || alert.incident.service == ServiceId::DAEMON {
            return Admitted::Yes(alert);
        }
        while self.at_once.front().is_some_and(|then| now.duration_since(*then) >= MINUTE) {
            self.at_once.pop_front();
        }
        if self.at_once.len() < AT_ONCE {
            self.at_once.push_back(now);
            return Admitted::Yes(alert);
        }
        if self.open.len() >= MOST {
            return Admitted::Dropped(alert);
        }
        *last_number += 1;
        self.change(now);
        Admitted::Summarised(self.insert(*last_number, alert))
    }

    /// Counts an incident that an earlier run of the daemon had summarised.
    pub(super) fn restore(&mut self, number: u64, alert: Alert, now: Instant) {
        self.insert(number, alert);
        self.change(now);
    }

    fn insert(&mut self, number: u64, alert: Alert) -> Change {
        let since = alert.incident.since;
        self.since = Some(self.since.map_or(since, |earlier| earlier.min(since)));
        let notification = Notification { since: alert.incident.began(), alert: alert.clone() };
        self.open.insert(alert.incident.id, (number, alert));
        Change::Put(Box::new(KeptAlert {
            number,
            notification,
            delivery: Delivery::Summarised,
            posted: None,
        }))
    }

    /// The alerts about open incidents that a summary counts.
    pub(super) fn open(&self) -> impl Iterator<Item = &Alert> {
        self.open.values().map(|(_, alert)| alert)
    }

    fn change(&mut self, now: Instant) {
        let soonest = now + FIRST;
        let next = self.last.map_or(soonest, |last| soonest.max(last + MINUTE));
        self.due.get_or_insert(next);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_over(&self) -> bool {
        self.open.is_empty() && self.due.is_none()
    }

    /// Makes a waiting summary due.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.due = self.due.map(|due| due.min(now));
    }

    /// The summaries to queue at `now`; `is_known` if the receiver has got one of this storm.
    pub(super) fn due(&mut self, now: Instant, is_known: bool) -> Vec<Alert> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        (self.due, self.last) = (None, Some(now));
        let Some(alert) = self.alert() else { return Vec::new() };
        if !self.open.is_empty() {
            return vec![alert];
        }
        // All are over. A receiver that got no summary yet is to know that there was a storm.
        self.over = None;
        self.since = None;
        let opening = Alert { resolved: false, ..alert.clone() };
        let resolution = Alert { resolved: true, ..alert };
        if is_known { vec![resolution] } else { vec![opening, resolution] }
    }

    fn alert(&self) -> Option<Alert> {
        let over = self.over.as_ref().map(|(alert, _)| alert);
        let latest = self.open().last().or(over)?;
        let mut counts: BTreeMap<&str, (Verdict, usize)> = BTreeMap::new();
        for alert in self.open() {
            let verdict = alert.incident.verdict;
            counts.entry(verdict.as_str()).or_insert((verdict, 0)).1 += 1;
        }
        let mut verdicts: Vec<(Verdict, usize)> = counts.into_values().collect();
        verdicts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let mut services: Vec<ServiceId> = self.open().map(|alert| alert.incident.service).collect();
        services.sort();
        services.dedup();
        let resolved = self.over.as_ref().map_or(0, |(_, count)| *count);
        let mut summary = Summary { open: self.open.len(), resolved, services, verdicts };
        let words = words(&summary, latest);
        summary.services.truncate(Summary::SERVICES);
        let worst = self.open().map(|alert| alert.incident.severity).max();
        let since = self.since.unwrap_or(latest.incident.since);
        let incident = Incident {
            id: SUMMARY,
            service: ServiceId::DAEMON,
            // For the receivers the verdicts are in the summary.
            verdict: summary.verdicts.first().map_or(latest.incident.verdict, |(verdict, _)| *verdict),
            confidence: 1.0,
            summary: words,
            severity: worst.unwrap_or(latest.incident.severity),
            cause: ServiceId::DAEMON,
            evidence: Vec::new(),
            held: Vec::new(),
            since,
            timing: Timing::default(),
            attempts: 0,
            snapshot: None,
            context: Default::default(),
            drill: None,
            host: None,
            earlier: Earlier::default(),
        };
        Some(Alert { summary: Some(summary), ..Alert::new(incident, latest.names.clone(), false) })
    }
}

/// Such as "40 more incidents are open: 38 crash_loop, 2 exited; of api, web and 38 other services; 3 are over".
fn words(summary: &Summary, latest: &Alert) -> String {
    const NAMED: usize = 5;
    let Summary { open, resolved, services, verdicts } = summary;
    if *open == 0 {
        let incidents = if *resolved == 1 {
            "one more incident is".to_owned()
        } else {
            format!("all {resolved} more incidents are")
        };
        return format!("{incidents} over");
    }
    let incidents =
        if *open == 1 { "one more incident is".to_owned() } else { format!("{open} more incidents are") };
    let verdicts: Vec<String> =
        verdicts.iter().map(|(verdict, count)| format!("{count} {}", verdict.as_str())).collect();
    let named: Vec<&str> =
        services.iter().take(NAMED).map(|service| latest.names.service(*service)).collect();
    let more = match services.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} other services"),
    };
    let over = if *resolved > 0 { format!("; {resolved} are over") } else { String::new() };
    format!("{incidents} open: {}; of {}{more}{over}", verdicts.join(", "), named.join(", "))
}

#[cfg(test)]
mod tests;
