//! Turns facts into the stream's objects.

mod blame;
mod container;
mod crash;
mod growth;
mod hook;
mod host;
mod incident;
mod operator;
mod process;
mod socket;
mod watch;

use std::{borrow::Cow, collections::BTreeMap, fmt, time::Duration};

use jiff::fmt::temporal::DateTimePrinter;

use super::{
    action::Action,
    clip::clipped,
    origin::{Names, Origin},
    wire::{self, Level, Outcome, Provider, Record},
};
use crate::redact::redact;
use crate::{
    clock::Timestamp,
    fact::{EventId, Fact, IncidentId, ServiceId, ServiceState},
};

/// The longest line, newline included, in bytes.
pub const MAX_LINE: usize = 32 * 1024;

/// The longest texts, in bytes.
mod room {
    pub const COMMAND_LINE: usize = 4096;
    pub const DETAIL: usize = 2048;
    pub const MESSAGE: usize = 1024;
    pub const PATH: usize = 1024;
    pub const NAME: usize = 128;
    /// Items of a list.
    pub const ITEMS: usize = 64;
    /// Groups of threads with one stack, the calls of a stack, and the longest of them.
    pub const STACKS: usize = 8;
    pub const FRAMES: usize = 16;
    pub const FRAME: usize = 256;
    /// Holders of a server's connections.
    pub const HOLDERS: usize = 8;
}

pub(super) struct Renderer<'a> {
    pub origin: &'a Origin,
    pub names: &'a Names,
    /// The last reported state of each service, by its id.
    pub states: &'a BTreeMap<ServiceId, ServiceState>,
    /// How often the longest texts and lists are halved, for a line that is too long.
    pub halvings: u32,
}

impl Renderer<'_> {
    /// The event of a fact that became known at `at`.
    pub fn record(&self, fact: &Fact, at: Timestamp, id: EventId) -> Record {
        let mut record = self.frame(Action::of(fact), own_time(fact).unwrap_or(at), id);
        match fact {
            Fact::AgentStart(start) => self.agent_start(&mut record, start),
            Fact::AgentReady(ready) => self.agent_ready(&mut record, ready),
            Fact::AgentReload(reload) => self.agent_reload(&mut record, reload),
            Fact::AgentStop(reason) => self.agent_stop(&mut record, reason),
            Fact::ProcessExit(exit, of) => self.process_exit(&mut record, exit, *of),
            Fact::OomKill(kill, of) => self.oom_kill(&mut record, kill, *of),
            Fact::Listener(listener, service) => self.listener(&mut record, listener, *service),
            Fact::SocketError(error, service) => self.socket_error(&mut record, error, *service),
            Fact::Retransmits(count, service) => self.retransmits(&mut record, count, *service),
            Fact::AcceptQueue(queue, service) => self.accept_queue(&mut record, queue, *service),
            Fact::Growth(growth, service) => self.growth(&mut record, growth, *service),
            Fact::Suspension(stop, service) => self.suspension(&mut record, stop, *service),
            Fact::Dependency(client, server, port, source) => {
                self.dependency(&mut record, (*client, *server), *port, *source)
            }
            Fact::Unit(unit, service) => self.unit(&mut record, unit, *service),
            Fact::Probe(report, change) => self.probe(&mut record, report, *change),
            Fact::ServiceState(service, state, previous, why) => {
                self.service_state(&mut record, *service, *state, *previous, why);
            }
            Fact::Incident(phase, incident) => self.incident_event(&mut record, *phase, incident),
            Fact::Restart(restart) => self.restart(&mut record, restart),
            Fact::Alert(outcome) => self.alert(&mut record, outcome),
            Fact::AlertSuppressed(alert) => self.alert_suppressed(&mut record, alert),
            Fact::HostState(state) => self.host_state(&mut record, state),
            Fact::Hook(run) => self.hook(&mut record, run),
            Fact::Operator(report) => self.operator(&mut record, report),
            Fact::Loss { class, count, place } => self.loss(&mut record, class, *count, place),
        }
        record.message = self.message(record.message);
        record
    }

    /// An event with the action's fields only.
    fn frame(&self, action: Action, at: Timestamp, id: EventId) -> Record {
        let shape = action.shape();
        Record {
            timestamp: wall(at),
            ecs: wire::Ecs { version: wire::ECS_VERSION.into() },
            schema_version: wire::SCHEMA_VERSION.into(),
            event: wire::Event {
                id: self.origin.event_id(id),
                sequence: id.0,
                kind: shape.kind,
                category: vec![shape.category.into()],
                types: vec![shape.types.into()],
                action,
                outcome: Outcome::Unknown,
                provider: Provider::Engine,
                reason: None,
            },
            log: wire::Log { level: Level::Info },
            message: String::new(),
            host: self.origin.host(),
            agent: self.origin.agent(),
            service: None,
            incident: None,
            process: None,
            cgroup: None,
            container: None,
            orchestrator: None,
            oom: None,
            client: None,
            server: None,
            socket: None,
            retransmit: None,
            accept_queue: None,
            growth: None,
            dependency: None,
            unit: None,
            probe: None,
            restart: None,
            alert: None,
            host_check: None,
            hook: None,
            user: None,
            operator: None,
            loss: None,
            coverage: None,
            place: None,
            self_test: None,
            watching: None,
            reload: None,
            file: None,
            error: None,
        }
    }

    /// A text from outside hostprobe, without secrets and not too long.
    fn text(&self, text: &str, room: usize) -> String {
        clipped(&redact(text), self.fit(room))
    }

    /// The same for the event's sentence. Most are whole and without secrets, and need no copy.
    fn message(&self, message: String) -> String {
        let hidden = match redact(&message) {
            Cow::Owned(shown) => Some(shown),
            Cow::Borrowed(_) => None,
        };
        let shown = hidden.unwrap_or(message);
        let room = self.fit(room::MESSAGE);
        if shown.len() <= room { shown } else { clipped(&shown, room) }
    }

    /// The part of `room` that is left after the halvings.
    fn fit(&self, room: usize) -> usize {
        room.checked_shr(self.halvings).unwrap_or(0)
    }

    fn name(&self, text: &str) -> String {
        clipped(text, self.fit(room::NAME))
    }

    /// A name that a process chose.
    pub(super) fn foreign_name(&self, text: &str) -> String {
        self.text(text, room::NAME)
    }

    fn service(&self, id: ServiceId) -> wire::Service {
        let state = self.states.get(&id).copied();
        wire::Service {
            name: self.name(self.names.service(id)),
            unit: self.names.unit(id).map(|unit| clipped(unit, self.fit(2 * room::NAME))),
            state: state.map(Into::into),
            previous: None,
            main_process: None,
        }
    }

    /// An incident by its id alone.
    fn incident_id(&self, id: IncidentId) -> wire::Incident {
        wire::Incident { id: self.origin.incident_id(id), ..wire::Incident::default() }
    }

    fn error(&self, why: &str) -> wire::ErrorText {
        wire::ErrorText { message: self.text(why, room::DETAIL) }
    }
}

/// The time of a fact that carries one.
fn own_time(fact: &Fact) -> Option<Timestamp> {
    match fact {
        Fact::ProcessExit(exit, _) => Some(exit.at),
        Fact::OomKill(kill, _) => Some(kill.at),
        Fact::Listener(listener, _) => Some(listener.at),
        Fact::SocketError(error, _) => Some(error.at),
        Fact::Retransmits(count, _) => Some(count.at),
        Fact::AcceptQueue(queue, _) => Some(queue.at),
        Fact::Growth(growth, _) => Some(growth.at),
        Fact::Suspension(stop, _) => Some(stop.at),
        Fact::Unit(unit, _) => Some(unit.at),
        Fact::Probe(report, _) => Some(report.at),
        Fact::HostState(state) => Some(state.reading.at),
        Fact::AgentStart(_)
        | Fact::AgentReady(_)
        | Fact::AgentReload(_)
        | Fact::AgentStop(_)
        | Fact::Dependency(..)
        | Fact::ServiceState(..)
        | Fact::Incident(..)
        | Fact::Restart(_)
        | Fact::Alert(_)
        | Fact::AlertSuppressed(_)
        | Fact::Hook(_)
        | Fact::Operator(_)
        | Fact::Loss { .. } => None,
    }
}

/// A time in the format of events: RFC 3339, UTC, always nine digits of a second.
pub(crate) fn wall(at: Timestamp) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(9));
    PRINTER.timestamp_to_string(&at.to_wall())
}

/// A sentence from outside hostprobe, redacted and clipped.
pub(crate) fn detail(text: &str) -> String {
    clipped(&redact(text), room::DETAIL)
}

/// Milliseconds, to the microsecond.
pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// A duration for people.
fn rounded(duration: Duration) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let seconds = duration.as_secs();
        match seconds {
            0 => write!(f, "{} ms", duration.as_millis()),
            1..60 => write!(f, "{:.1} s", duration.as_secs_f64()),
            60..3600 => write!(f, "{} min", seconds / 60),
            3600..86_400 => write!(f, "{} h", seconds / 3600),
            _ => write!(f, "{} d", seconds / 86_400),
        }
    })
}

/// Such as `1 service`, `2 services`.
fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
