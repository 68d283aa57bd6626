//! One fault from its injection until every service is well again.

use serde_json::Value;

use super::{
    faults::Step,
    health::Health,
    outcome::{Outcome, verdicts},
    stack::Stack,
    table::Table,
};
use crate::{
    daemon::{Mark, event_action},
    incident_events::{is, text},
};

/// Injects a fault, shows its progress, and waits until every service is well again.
pub(super) fn run(step: &Step, stack: &Stack, table: &mut Table) -> Outcome {
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
        wrong.extend(wait_for_verdicts(step, stack, mark, table));
        (step.undo)(stack);
        if wrong.is_empty() && !stack.calm(mark, Health::of_all(step.incidents.len())) {
            wrong.push("it did not become well again".to_owned());
        }
        let alerted = |event: &Value| is(event, "alert.send", step.incidents[0].0);
        if wrong.is_empty() && step.alert && stack.find(mark, alerted).is_none() {
            wrong.push("no alert was sent".to_owned());
        }
    }
    drop(guard);
    let mut outcome = Outcome::from_events(&stack.daemon.since(mark), step);
    outcome.wrong = [wrong, outcome.wrong].concat();
    table.line(step, &outcome);
    outcome
}

/// Shows each verdict as soon as it is reached; what is wrong if one is not.
fn wait_for_verdicts(step: &Step, stack: &Stack, mark: Mark, table: &mut Table) -> Option<String> {
    let mut reached = Vec::new();
    for &(service, verdict) in step.incidents {
        let found = stack
            .find(mark, |event| is_of_incident(event, service) && text(event, "incident.verdict") == verdict);
        if found.is_none() {
            return Some(format!("{service} did not get the verdict {verdict}"));
        }
        reached.push((service.to_owned(), verdict.to_owned()));
        table.progress(&Table::running(step, &format!("{} …", verdicts(&reached))));
    }
    None
}

fn is_of_incident(event: &Value, service: &str) -> bool {
    event_action(event).starts_with("incident.") && text(event, "service.name") == service
}
