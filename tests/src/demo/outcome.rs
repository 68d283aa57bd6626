//! The outcome of one fault, read from the event stream.

use std::collections::BTreeSet;

use serde_json::Value;

use super::faults::Step;
use crate::{
    daemon::{event_action, field},
    incident_events::text,
};

/// What came of a fault.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// Services and their verdicts in the order in which they were reached, each once.
    pub reached: Vec<(String, String)>,
    /// What was done, for a person.
    pub done: Vec<String>,
    pub detected_ms: Option<f64>,
    pub healthy_ms: Option<f64>,
    /// The last that was said of the incident of the service that the fault was done to; null if there is none.
    pub incident: Value,
    /// What is wrong, a sentence each.
    pub wrong: Vec<String>,
}

impl Outcome {
    /// Reads the outcome from the events, and compares it with what is right.
    pub fn from_events(events: &[Value], step: &Step) -> Self {
        let mut outcome = Self::default();
        let (service, _) = step.incidents[0];
        let mut restarted = Vec::new();
        let (mut held, mut snapshot, mut alert, mut named) = (BTreeSet::new(), false, false, false);
        for event in events {
            let of = text(event, "service.name");
            match event_action(event) {
                "restart.request" => restarted.push(of),
                "alert.send" => alert = true,
                action if action.starts_with("incident.") => {
                    let reached = (of.to_owned(), text(event, "incident.verdict").to_owned());
                    if !outcome.reached.contains(&reached) {
                        outcome.reached.push(reached);
                    }
                    let names = field(event, "incident.held").and_then(Value::as_array);
                    held.extend(names.into_iter().flatten().filter_map(Value::as_str));
                    snapshot |= !text(event, "incident.snapshot").is_empty();
                    if of == service {
                        outcome.add(event);
                        named |= text(event, "incident.summary").contains(step.named);
                    }
                }
                _ => {}
            }
        }
        let mut done = Vec::new();
        done.extend(snapshot.then(|| "snapshot".to_owned()));
        done.extend(restarted.iter().map(|name| format!("restart {name}")));
        done.extend(held.iter().map(|name| format!("hold {name}")));
        done.extend(alert.then(|| "alert".to_owned()));
        outcome.done = done;
        outcome.judge(step, &restarted, named);
        outcome
    }

    /// Takes in an event of the incident of the service that the fault was done to.
    fn add(&mut self, event: &Value) {
        let time = |step: &str| field(event, &format!("incident.timing.{step}_ms")).and_then(Value::as_f64);
        self.detected_ms = self.detected_ms.or_else(|| time("detected"));
        self.healthy_ms = time("healthy").or(self.healthy_ms);
        self.incident = event.clone();
    }

    fn judge(&mut self, step: &Step, restarted: &[&str], named: bool) {
        let right: BTreeSet<(&str, &str)> = step.incidents.iter().copied().collect();
        let reached: BTreeSet<(&str, &str)> =
            self.reached.iter().map(|(service, verdict)| (service.as_str(), verdict.as_str())).collect();
        if reached != right {
            let why = text(&self.incident, "incident.summary");
            self.wrong.push(format!("verdicts {:?}, expected {:?}; {why}", self.reached, step.incidents));
        }
        if restarted != step.restarts {
            self.wrong.push(format!("restarted {restarted:?}, expected {:?}", step.restarts));
        }
        if !named {
            self.wrong.push(format!("no summary of the incident names {}", step.named));
        }
    }
}

/// Verdicts for a person: that of the service itself, then those of others with their names.
pub(super) fn verdicts(reached: &[(String, String)]) -> String {
    let own = reached.first().map(|(service, _)| service.as_str());
    let word = |(service, verdict): &(String, String)| {
        if own == Some(service) { verdict.clone() } else { format!("{service} {verdict}") }
    };
    reached.iter().map(word).collect::<Vec<_>>().join(", ")
}
