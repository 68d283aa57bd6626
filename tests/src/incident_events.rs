//! The events of one incident, from the fault to "healthy again".

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::daemon::{Daemon, Mark, event_action, field};

/// The longest a fault may take to be healed on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The events of a service from a mark until its incident was resolved and its state healthy again.
#[derive(Debug)]
pub struct IncidentEvents {
    events: Vec<Value>,
}

impl IncidentEvents {
    /// Waits until `service` is healthy again after an incident that began after `mark`.
    #[track_caller]
    pub fn of(daemon: &Daemon, mark: Mark, service: &str) -> Self {
        daemon.wait_for_after(mark, |event| is(event, "incident.resolve", service), PATIENCE);
        daemon.wait_for_after(
            mark,
            |event| is(event, "service.state", service) && text(event, "service.state") == "healthy",
            PATIENCE,
        );
        let events = daemon.since(mark).into_iter().filter(|event| text(event, "service.name") == service);
        Self { events: events.collect() }
    }

    /// The events with this action.
    pub fn all(&self, action: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event_action(event) == action).collect()
    }

    /// The only event with this action.
    ///
    /// # Panics
    /// If there is none, or more than one.
    #[track_caller]
    pub fn one(&self, action: &str) -> &Value {
        match self.all(action)[..] {
            [event] => event,
            ref events => panic!("{} events {action}, not one, in {:#?}", events.len(), self.events),
        }
    }

    /// The incident's verdict, of which there was one from its opening to its end.
    #[track_caller]
    pub fn verdict(&self) -> &str {
        let opened = text(self.one("incident.open"), "incident.verdict");
        assert_eq!(text(self.one("incident.resolve"), "incident.verdict"), opened);
        opened
    }

    /// A time of the incident, in milliseconds since the fault: `detected`, `decided`, `acted`, `listening` or
    /// `healthy`.
    #[track_caller]
    pub fn millis(&self, step: &str) -> f64 {
        let resolved = self.one("incident.resolve");
        let value = field(resolved, &format!("incident.timing.{step}_ms")).and_then(Value::as_f64);
        value.unwrap_or_else(|| panic!("no {step} in {resolved:#}"))
    }
}

/// Waits until `service` is healthy for the first time.
#[track_caller]
pub fn wait_until_healthy(daemon: &Daemon, service: &str) {
    let healthy =
        |event: &Value| is(event, "service.state", service) && text(event, "service.state") == "healthy";
    daemon.wait_for(healthy, PATIENCE);
}

/// The process of `service` that listens, by the latest listener.
///
/// # Panics
/// If none does.
#[track_caller]
pub fn listening_pid(daemon: &Daemon, service: &str) -> u32 {
    daemon.wait_for(|event| is(event, "listener.up", service), PATIENCE);
    let events = daemon.events();
    let latest = events.iter().rev().find(|event| is(event, "listener.up", service));
    let pid = latest.and_then(|event| number(event, "process.pid")).expect("a listener has a process");
    u32::try_from(pid).expect("a pid")
}

/// Whether an event has this action and is of this service.
pub fn is(event: &Value, action: &str, service: &str) -> bool {
    event_action(event) == action && text(event, "service.name") == service
}

/// A text field by its dotted name; empty if there is none.
pub fn text<'a>(event: &'a Value, name: &str) -> &'a str {
    field(event, name).and_then(Value::as_str).unwrap_or_default()
}

/// The time of an event.
///
/// # Panics
/// If it has none.
#[track_caller]
pub fn time_of(event: &Value) -> SystemTime {
    let at: jiff::Timestamp = text(event, "@timestamp").parse().expect("an event has a time");
    UNIX_EPOCH + Duration::try_from(at.as_duration()).expect("it is after 1970")
}

/// A whole number by its dotted name.
pub fn number(event: &Value, name: &str) -> Option<i64> {
    field(event, name).and_then(Value::as_i64)
}

/// The median of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
