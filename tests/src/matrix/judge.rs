//! What a row's daemon said from the fault to its end, held against what is right.

use serde_json::Value;

use super::{
    row::{Measured, Row},
    scene::Scene,
};
use crate::{
    daemon::{event_action, field},
    incident_events::{is, text},
};

/// What is right for a row beside its verdicts.
#[derive(Clone, Debug, Default)]
pub struct Expected<'a> {
    /// The service whose incident it is.
    pub service: &'a str,
    /// How often each service may and must be restarted: from, to.
    pub restarts: &'a [(&'a str, usize, usize)],
    /// The services that alerts say have failed, each once; None where the row says nothing of alerts.
    pub alerts: Option<&'a [&'a str]>,
    /// Words of the reason why the service is not restarted; empty where no restart is considered.
    pub held: &'a str,
    /// Words that a summary of the incident must have.
    pub named: Vec<String>,
    /// Verdicts that it has as well while the host is busy.
    pub aside: &'a [&'a str],
    /// Whether the incident must be over by now.
    pub resolved: bool,
    /// Whether it is a stop on request: a state and no incident.
    pub stopped: bool,
}

impl Scene {
    /// Ends the daemon and judges all it said since the fault.
    pub fn judge(mut self, row: &Row, expected: &Expected<'_>) -> Measured {
        let (mark, receiver) = (self.mark, self.receiver.clone());
        let (status, log) = (self.daemon.stop(), self.daemon.log());
        let events = self.daemon.since(mark);
        let mut measured = measure(&events, row, expected);
        if let Some(alerts) = expected.alerts {
            let mut alerted: Vec<String> =
                receiver.firing().into_iter().map(|(service, _)| service).collect();
            alerted.sort_unstable();
            let mut right: Vec<String> = alerts.iter().map(|&service| service.to_owned()).collect();
            right.sort_unstable();
            measured.expect(alerted == right, || format!("alerts {alerted:?}, expected {right:?}"));
        }
        measured.expect(status.success(), || format!("the daemon ended with {status}: {log}"));
        if !measured.wrong.is_empty() {
            tell(&events);
        }
        measured
    }
}

/// What is right about a fault that a restart does not mend.
#[derive(Clone, Debug)]
pub struct Held<'a> {
    pub service: &'a str,
    /// Words of the reason why it is not restarted.
    pub because: &'a str,
    /// Whether an alert is sent before the fault ends.
    pub alert: bool,
    /// Words that a summary of the incident must have.
    pub named: Vec<String>,
}

impl Scene {
    /// After a fault that a restart does not mend: waits for the row's verdict, has the fault last for some more probes,
    /// ends it, and judges.
    pub fn judge_held(self, row: &Row, held: Held<'_>, end: impl FnOnce(&Self)) -> Measured {
        let Held { service, because, alert, named } = held;
        let found = row.verdicts.first().and_then(|verdict| self.verdict(service, verdict));
        self.more_probes();
        end(&self);
        if found.is_some() {
            self.healed(service);
        }
        self.more_probes();
        let alerts = if alert { &[service][..] } else { &[] };
        let (alerts, held, resolved) = (Some(alerts), because, true);
        self.judge(row, &Expected { service, alerts, held, named, resolved, ..Expected::default() })
    }

    /// After what is no fault: waits until the daemon has probed the service some more, and judges.
    pub fn judge_left_alone(self, row: &Row, service: &str) -> Measured {
        self.looked_at(service);
        self.judge(row, &Expected { service, alerts: Some(&[]), ..Expected::default() })
    }
}

/// Prints what the daemon said, to show why the row is wrong.
fn tell(events: &[Value]) {
    for event in events {
        let time = text(event, "@timestamp").get(11..23).unwrap_or_default();
        println!("     {time} {} {}", event_action(event), text(event, "message"));
    }
}

fn measure(events: &[Value], row: &Row, expected: &Expected<'_>) -> Measured {
    let its = |event: &&Value| {
        event_action(event).starts_with("incident.") && text(event, "service.name") == expected.service
    };
    let incidents: Vec<&Value> = events.iter().filter(its).collect();
    let mut measured = Measured::default();
    for incident in &incidents {
        let verdict = text(incident, "incident.verdict").to_owned();
        if !measured.verdicts.contains(&verdict) && !expected.aside.contains(&verdict.as_str()) {
            measured.verdicts.push(verdict);
        }
        let confidence = field(incident, "incident.confidence").and_then(Value::as_f64);
        measured.confidence = measured.confidence.or(confidence);
        let time =
            |step: &str| field(incident, &format!("incident.timing.{step}_ms")).and_then(Value::as_f64);
        measured.detected_ms = measured.detected_ms.or_else(|| time("detected"));
        measured.healthy_ms = time("healthy").or(measured.healthy_ms);
    }
    let is_stopped = |event: &Value| {
        is(event, "service.state", expected.service) && text(event, "service.state") == "stopped"
    };
    if expected.stopped && events.iter().any(is_stopped) {
        measured.verdicts.push("stopped".to_owned());
    }
    measured.expect(measured.verdicts == row.verdicts, || {
        format!("verdicts {:?}, expected {:?}", reached(events), row.verdicts)
    });
    for word in &expected.named {
        let named = incidents.iter().any(|incident| text(incident, "incident.summary").contains(word));
        measured.expect(named, || format!("no summary of the incident names {word:?}"));
    }
    if expected.resolved {
        let resolved = incidents.last().is_some_and(|last| event_action(last) == "incident.resolve");
        measured.expect(resolved, || "the incident is not over".to_owned());
    }
    let judge_held = |event: &Value| {
        is(event, "restart.hold", expected.service) && text(event, "event.reason").contains(expected.held)
    };
    let held = expected.held.is_empty() || events.iter().any(judge_held);
    measured.expect(held, || format!("no restart is held because {:?}", expected.held));
    judge_restarts(&mut measured, events, expected.restarts);
    measured
}

fn judge_restarts(measured: &mut Measured, events: &[Value], right: &[(&str, usize, usize)]) {
    let mut requests: Vec<(&str, usize)> = Vec::new();
    for request in events.iter().filter(|event| event_action(event) == "restart.request") {
        let service = text(request, "service.name");
        match requests.iter_mut().find(|(name, _)| *name == service) {
            Some((_, count)) => *count += 1,
            None => requests.push((service, 1)),
        }
    }
    measured.restarts = requests.iter().map(|(_, count)| count).sum();
    for (service, count) in &requests {
        let most = right.iter().find(|(name, ..)| name == service).map_or(0, |(_, _, most)| *most);
        measured.false_actions += count.saturating_sub(most);
        measured.expect(*count <= most, || format!("{service} was restarted {count} times, expected {most}"));
    }
    for (service, least, _) in right {
        let count = requests.iter().find(|(name, _)| name == service).map_or(0, |(_, count)| *count);
        measured
            .expect(count >= *least, || format!("{service} was restarted {count} times, expected {least}"));
    }
}

/// All verdicts of all services since the fault, for a person.
fn reached(events: &[Value]) -> Vec<String> {
    let mut reached: Vec<String> = Vec::new();
    for event in events.iter().filter(|event| event_action(event).starts_with("incident.")) {
        let verdict = format!("{} {}", text(event, "service.name"), text(event, "incident.verdict"));
        if !reached.contains(&verdict) {
            reached.push(verdict);
        }
    }
    reached
}
