//! One fault from its beginning until everything is well again, as the event stream tells it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{faults::Step, stack::Stack, table::Table};
use crate::{
    daemon::{event_action, field},
    story::{is, text},
};

/// What came of a fault.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
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

impl Course {
    /// Does a fault, shows how it goes, and waits until everything is well again.
    pub fn of(step: &Step, stack: &Stack, table: &mut Table) -> Self {
        table.progress(&Table::running(step, "all well"));
        if step.by_probes {
            stack.until_graces_are_over();
        }
        let mark = stack.daemon.mark();
        table.progress(&Table::running(step, "breaking …"));
        let guard = (step.happen)(stack);
        let mut wrong = Vec::new();
        if let Err(error) = &guard {
            wrong.push(format!("it cannot be done: {error}"));
        } else {
            wrong.extend(Self::wait_for_verdicts(step, stack, mark, table));
            (step.undo)(stack);
            if wrong.is_empty() && !stack.calm(mark, Standing::of_all(step.incidents.len())) {
                wrong.push("it did not become well again".to_owned());
            }
            let alerted = |event: &Value| is(event, "alert.send", step.incidents[0].0);
            if wrong.is_empty() && step.alert && stack.find(mark, alerted).is_none() {
                wrong.push("no alert was sent".to_owned());
            }
        }
        drop(guard);
        let mut course = Self::told(&stack.daemon.since(mark), step);
        course.wrong = [wrong, course.wrong].concat();
        table.line(step, &course);
        course
    }

    /// Shows each verdict as soon as it is reached; what is wrong if one is not.
    fn wait_for_verdicts(
        step: &Step,
        stack: &Stack,
        mark: crate::daemon::Mark,
        table: &mut Table,
    ) -> Option<String> {
        let mut reached = Vec::new();
        for &(service, verdict) in step.incidents {
            let found = stack.find(mark, |event| {
                is_of_incident(event, service) && text(event, "incident.verdict") == verdict
            });
            if found.is_none() {
                return Some(format!("{service} did not get the verdict {verdict}"));
            }
            reached.push((service.to_owned(), verdict.to_owned()));
            table.progress(&Table::running(step, &format!("{} …", verdicts(&reached))));
        }
        None
    }

    /// What the events tell, held against what is right.
    fn told(events: &[Value], step: &Step) -> Self {
        let mut course = Self::default();
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
                    if !course.reached.contains(&reached) {
                        course.reached.push(reached);
                    }
                    let names = field(event, "incident.held").and_then(Value::as_array);
                    held.extend(names.into_iter().flatten().filter_map(Value::as_str));
                    snapshot |= !text(event, "incident.snapshot").is_empty();
                    if of == service {
                        course.add(event);
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
        course.done = done;
        course.judge(step, &restarted, named);
        course
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

fn is_of_incident(event: &Value, service: &str) -> bool {
    event_action(event).starts_with("incident.") && text(event, "service.name") == service
}

/// Who is well, event by event.
pub(super) struct Standing {
    unwell: BTreeSet<String>,
    open: BTreeSet<String>,
    /// How many incidents must have been opened before it counts as calm.
    to_come: usize,
}

impl Standing {
    /// As it is before the start: none of these services is well.
    pub fn of_none(services: &[&str]) -> Self {
        let unwell = services.iter().map(|&service| service.to_owned()).collect();
        Self { unwell, open: BTreeSet::new(), to_come: 0 }
    }

    /// As it is before a fault that opens so many incidents.
    pub fn of_all(to_come: usize) -> Self {
        Self { unwell: BTreeSet::new(), open: BTreeSet::new(), to_come }
    }

    /// Takes in an event; whether everything is well after it.
    pub fn is_calm_with(&mut self, event: &Value) -> bool {
        let service = text(event, "service.name").to_owned();
        match event_action(event) {
            "service.state" => {
                self.unwell.remove(&service);
                if text(event, "service.state") != "healthy" {
                    self.unwell.insert(service);
                }
            }
            "incident.open" => {
                self.to_come = self.to_come.saturating_sub(1);
                self.open.insert(service);
            }
            "incident.resolve" => {
                self.open.remove(&service);
            }
            _ => {}
        }
        self.to_come == 0 && self.unwell.is_empty() && self.open.is_empty()
    }
}
