//! What a person reads of an incident: what failed, why, what was done, whether that worked, where, since when.
//!
//! Every text is one line without control characters and without the secrets of the configuration. Each format escapes it
//! for its receiver.

use std::time::Duration;

use super::call::cut;
use crate::{
    act::alert::{
        notification::{Alert, Notification},
        outbox::Message,
    },
    emit::Origin,
    escape::escaped,
    fact::{FaultContext, Incident, Severity},
    redact::redact,
};

/// The longest sentence about an incident, in characters, and the longest of the further values.
const SUMMARY_MAX: usize = 1200;
const VALUE_MAX: usize = 400;

/// The longest sentence about who did it.
const BLAME_MAX: usize = 700;

/// The changes before a fault, and the last lines of a log, that a message has.
const CHANGES_MAX: usize = 2;
const LINES_MAX: usize = 3;

/// The held services that are named.
const HELD_MAX: usize = 20;

/// Writes texts about the incidents of one daemon.
#[derive(Clone, Debug)]
pub(in crate::act::alert) struct Writer {
    pub(super) origin: Origin,
    /// The address of the daemon's page for people.
    pub(super) page: Option<String>,
}

/// What an incident is to its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open(Severity),
    /// It is open, and a person has taken it on.
    Acknowledged,
    Resolved,
}

/// A text about an incident, in parts.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) state: State,
    /// Such as `CRITICAL: api on db-1: crash_loop`.
    pub(super) title: String,
    /// What happened, and why.
    pub(super) summary: String,
    /// What each is, and its value.
    pub(super) facts: Vec<(&'static str, String)>,
    /// The incident's id, which stays the same over restarts of the daemon.
    pub(super) id: String,
    pub(super) page: Option<String>,
}

impl Text {
    /// All of it as lines.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let facts = self.facts.iter().map(|(name, value)| format!("{name}: {value}"));
        std::iter::once(self.summary.clone()).chain(facts)
    }

    /// A mark that is seen before the words are read.
    pub(super) fn mark(&self) -> &'static str {
        match self.state {
            State::Open(Severity::Critical) => "🔴",
            State::Open(Severity::Warning) => "🟠",
            State::Open(Severity::Info) => "🔵",
            State::Acknowledged => "👀",
            State::Resolved => "✅",
        }
    }
}

impl Writer {
    pub(super) fn id(&self, incident: &Incident) -> String {
        self.origin.incident_id(incident.id)
    }

    pub(super) fn text(&self, message: &Message) -> Text {
        let Notification { alert, since } = &message.notification;
        let incident = &alert.incident;
        let state = state(alert);
        let lasts = lasting(alert, *since);
        Text {
            state,
            title: self.title(alert, state, message.is_reminder.then_some(&lasts)),
            summary: one_line(&incident.summary, SUMMARY_MAX),
            facts: self.facts(alert, *since, &lasts),
            id: self.id(incident),
            page: self.page.clone(),
        }
    }

    fn title(&self, alert: &Alert, state: State, still: Option<&String>) -> String {
        let mut word = match state {
            State::Open(Severity::Critical) => "CRITICAL",
            State::Open(Severity::Warning) => "WARNING",
            State::Open(Severity::Info) => "INFO",
            State::Acknowledged => "ACKNOWLEDGED",
            State::Resolved => "RESOLVED",
        }
        .to_owned();
        if let Some(lasts) = still {
            word = format!("{word}, still open after {lasts}");
        }
        if alert.test {
            word = format!("TEST, {word}");
        } else if alert.incident.drill.is_some() {
            word = format!("DRILL, {word}");
        }
        let host = one_line(&self.origin.host_name, VALUE_MAX);
        let what = match &alert.summary {
            Some(_) => "many incidents".to_owned(),
            None if alert.test => "a test of the alerts".to_owned(),
            None => alert.incident.verdict.as_str().to_owned(),
        };
        let service = match &alert.summary {
            Some(_) => String::new(),
            None => format!("{} on ", one_line(alert.service(), VALUE_MAX)),
        };
        format!("{word}: {service}{host}: {what}")
    }

    fn facts(&self, alert: &Alert, since: jiff::Timestamp, lasts: &str) -> Vec<(&'static str, String)> {
        let incident = &alert.incident;
        let id = self.id(incident);
        let mut facts = Vec::new();
        if incident.cause != incident.service {
            facts.push(("Cause", one_line(alert.names.service(incident.cause), VALUE_MAX)));
        }
        if alert.summary.is_none() && !alert.test {
            let confidence = f64::from(incident.confidence) * 100.0;
            facts.push(("Verdict", format!("{} (confidence {confidence:.0} %)", incident.verdict.as_str())));
            let nothing = || "nothing by hostprobe".to_owned();
            facts.push(("Done", alert.done.as_ref().map_or_else(nothing, |done| one_line(done, VALUE_MAX))));
        }
        facts.push(("Now", now(alert, lasts)));
        if let Some(by) = &incident.drill {
            facts.push(("Drill by", one_line(by, VALUE_MAX)));
        }
        facts.push(("Host", one_line(&self.origin.host_name, VALUE_MAX)));
        facts.push(("Since", since.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()));
        if !incident.held.is_empty() {
            let more = incident.held.len().saturating_sub(HELD_MAX);
            let held = incident.held.iter().take(HELD_MAX).map(|held| alert.names.service(*held));
            let held = held.collect::<Vec<_>>().join(", ");
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            facts.push(("Held because of it", one_line(&format!("{held}{more}"), VALUE_MAX)));
        }
        if let Some(snapshot) = &incident.snapshot {
            facts.push(("Snapshot", one_line(snapshot, VALUE_MAX)));
        }
        let FaultContext { changes, logs, stacks, crash, culprit, actor, changed_at: _ } = &incident.context;
        if let Some(site) = crash {
            facts.push(("Crash", one_line(&site.words(), VALUE_MAX)));
            facts.extend(site.core.iter().map(|core| ("Core dump", one_line(core, VALUE_MAX))));
        }
        facts.extend(stacks.iter().map(|stacks| ("Threads", one_line(&stacks.summary, VALUE_MAX))));
        facts.extend(culprit.iter().map(|it| ("Memory", one_line(&it.to_string(), BLAME_MAX))));
        facts.extend(actor.iter().map(|it| ("By", one_line(&it.to_string(), BLAME_MAX))));
        let changes = changes.iter().take(CHANGES_MAX);
        facts.extend(changes.map(|change| ("Changed", one_line(change, VALUE_MAX))));
        let lines = &logs[logs.len().saturating_sub(LINES_MAX)..];
        facts.extend(lines.iter().map(|line| ("Log", one_line(line, VALUE_MAX))));
        if alert.test {
            return facts;
        }
        if alert.summary.is_some() {
            facts.push(("All", "hostprobe incidents".to_owned()));
            return facts;
        }
        facts.push(("Explain", format!("hostprobe explain {id}")));
        match &alert.silence {
            _ if alert.resolved => {}
            Some(silence) => facts.push(("Quiet", one_line(&silence.reason, VALUE_MAX))),
            None => facts.push(("Acknowledge", format!("hostprobe ack {id}"))),
        }
        facts
    }
}

fn state(alert: &Alert) -> State {
    let is_acknowledged = alert.silence.as_ref().is_some_and(|silence| silence.acknowledged);
    match alert.resolved {
        true => State::Resolved,
        false if is_acknowledged => State::Acknowledged,
        false => State::Open(alert.incident.severity),
    }
}

/// How an incident stands.
fn now(alert: &Alert, lasts: &str) -> String {
    let healed = alert.incident.timing.healthy.or(alert.incident.timing.listening);
    match (alert.resolved, alert.incident.attempts) {
        (true, _) => match healed {
            Some(took) => format!("over; healthy again {} after the fault", rounded(took)),
            None => "over".to_owned(),
        },
        (false, 0) => format!("open for {lasts}"),
        (false, 1) => format!("open for {lasts}; not healthy yet after a restart"),
        (false, many) => format!("open for {lasts}; not healthy yet after {many} restarts"),
    }
}

/// How long an incident has lasted, for people.
fn lasting(alert: &Alert, since: jiff::Timestamp) -> String {
    let lasts = jiff::Timestamp::now().duration_since(since);
    let lasts = Duration::try_from(lasts).unwrap_or_default();
    if alert.test { "0 s".to_owned() } else { rounded(lasts) }
}

fn rounded(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        seconds @ 1..60 => format!("{seconds} s"),
        seconds @ 60..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// A foreign text as one line, without secrets, of at most `most` characters.
fn one_line(text: &str, most: usize) -> String {
    // Redacted before it is cut: a secret that is cut in two is not known any more.
    cut(&escaped(&redact(text)), most)
}
