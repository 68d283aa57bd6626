//! The state machine: observations in, facts and effects out.
//!
//! It does no I/O, takes the time as an argument and cannot fail, so that a recorded stream of observations
//! leads to the same decisions again. What it says goes to the [`Outbox`] as facts; what is to be done goes
//! there as [`Effect`]s, whose outcomes come back as observations.

pub mod budget;
mod service;
pub mod unit;
pub mod verdict;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::Service;

use crate::{
    clock::Timestamp,
    config,
    fact::{
        AcceptQueue, EventId, Examination, Fact, Holder, Incident, IncidentId, Listener, Membership, OomKill,
        PortHolder, Pressure, ProbeReport, ProcessExit, ProcessKey, RestartMethod, Retransmits, ServiceId,
        ServiceState, SocketError, Suspension, UnitState,
    },
};

/// Everything that can change a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Observation {
    /// A service's main process runs.
    Running(ServiceId, ProcessKey),
    /// The ports a service's processes listened on before anybody watched, one for each socket.
    Listening(ServiceId, Vec<u16>),
    /// A process of a service ended.
    Exit(ProcessExit, Membership, EventId),
    /// The OOM killer chose a process of a service; its exit follows.
    OomKill(OomKill, Membership, EventId),
    /// A service's listener came or went.
    Listener(Listener, ServiceId, EventId),
    /// A probe ended.
    Probe(ProbeReport),
    /// systemd's word on a service's unit, asked for or not.
    Unit(ServiceId, UnitState),
    /// systemd could not be asked, and why.
    UnitUnknown(ServiceId, String),
    /// A restart was carried out, or could not be.
    Restarted(ServiceId, Result<(), String>),
    /// What a service's processes use.
    Usage(ServiceId, Usage),
    /// A socket of a service had an error.
    SocketError(SocketError, ServiceId, EventId),
    /// Segments of a service had to be sent again.
    Retransmits(Retransmits, ServiceId, EventId),
    /// A listener of a service has no room for more connections.
    AcceptQueue(AcceptQueue, ServiceId, EventId),
    /// A service's main process was stopped by a signal.
    Suspended(Suspension, ServiceId, EventId),
    /// A service connects to another one.
    Connected {
        /// The one that connects.
        client: ServiceId,
        /// The one that it connects to.
        server: ServiceId,
    },
    /// What a service's processes did while they were looked at; None if there were none to look at.
    Examined(ServiceId, Option<Examination>),
    /// What was seen of a service's processes was written to this file, or could not be, and why.
    Snapshot(ServiceId, Result<String, String>),
    /// Who listens on one of the ports a service wants; None if nobody does.
    PortHolder(ServiceId, Option<PortHolder>),
    /// Who holds the connections to a service, most first, as this host's sockets tell.
    Holders(ServiceId, Vec<Holder>),
    /// How hard the host is pressed.
    Pressure(Pressure),
}

/// What a service's processes use together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Percent of one core since the last sample.
    pub cpu_percent: f64,
    /// Percent of the memory limit that applies, or of the host's memory.
    pub memory_percent: f64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub fds: u64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Restart a service; answered by [`Observation::Restarted`] and [`Observation::Running`].
    Restart {
        /// The service.
        service: ServiceId,
        /// How.
        method: RestartMethod,
        /// Clear the unit's failed state and its count of starts first.
        reset_failed: bool,
    },
    /// Clear a unit's failed state, so that an operator's start is not refused.
    ResetFailed(ServiceId),
    /// Read a unit's state; answered by [`Observation::Unit`].
    InspectUnit(ServiceId),
    /// Probe a service now.
    ProbeNow(ServiceId),
    /// Probe a service in quick succession until it answers.
    ProbeUntilWell(ServiceId),
    /// Look twice at what a service's processes do; answered by [`Observation::Examined`].
    Examine {
        /// The service.
        service: ServiceId,
        /// Time between the two looks.
        over: Duration,
    },
    /// Write down what can be seen of a service's processes, with its probes paused meanwhile; answered by
    /// [`Observation::Snapshot`].
    Snapshot(ServiceId),
    /// Find out who listens on the ports a service wants; answered by [`Observation::PortHolder`].
    FindPortHolder {
        /// The service.
        service: ServiceId,
        /// The ports.
        ports: Vec<u16>,
    },
    /// Find out whose connections to a service there are on this host; answered by [`Observation::Holders`].
    FindHolders {
        /// The service.
        service: ServiceId,
        /// Its ports.
        ports: Vec<u16>,
    },
    /// Tell the receivers of alerts.
    Alert {
        /// The incident as it stands.
        incident: Incident,
        /// True if it is over.
        resolved: bool,
    },
}

/// Where the engine's words and wishes go.
pub trait Outbox {
    /// Says a fact, which happened at `at`; its place in the stream can serve as evidence.
    fn emit(&mut self, fact: Fact, at: Timestamp) -> EventId;
    /// Asks for something to be done.
    fn act(&mut self, effect: Effect);
}

/// One service as an onlooker sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceView {
    /// Its state.
    pub state: ServiceState,
    /// How long the latest probe took.
    pub response_time: Option<Duration>,
    /// What is wrong with it, in a sentence.
    pub error: Option<String>,
    /// The incident that is open.
    pub incident: Option<Incident>,
    /// What it depends on, declared or learned from its connections.
    pub depends_on: Vec<ServiceId>,
}

/// All services and what is being done about them.
#[derive(Debug)]
pub struct Engine {
    services: Vec<Service>,
    incidents: u64,
}

impl Engine {
    /// Starts to watch `services` at `now`; with `observe`, none of them is restarted.
    pub fn new(services: &[config::Service], observe: bool, now: Timestamp) -> Self {
        let services = (0..).zip(services).map(|(at, spec)| Service::new(ServiceId(at), spec, observe, now));
        Self { services: services.collect(), incidents: 0 }
    }

    /// Takes in one observation made at `now`.
    pub fn observe(&mut self, now: Timestamp, observation: Observation, out: &mut impl Outbox) {
        let id = match &observation {
            Observation::Exit(_, member, _) | Observation::OomKill(_, member, _) => member.service,
            Observation::Probe(report) => report.service,
            Observation::Running(id, _)
            | Observation::Listening(id, _)
            | Observation::Listener(_, id, _)
            | Observation::Unit(id, _)
            | Observation::UnitUnknown(id, _)
            | Observation::Restarted(id, _)
            | Observation::Usage(id, _)
            | Observation::SocketError(_, id, _)
            | Observation::Retransmits(_, id, _)
            | Observation::AcceptQueue(_, id, _)
            | Observation::Suspended(_, id, _)
            | Observation::Connected { client: id, .. }
            | Observation::Examined(id, _)
            | Observation::Snapshot(id, _)
            | Observation::PortHolder(id, _)
            | Observation::Holders(id, _) => *id,
            Observation::Pressure(_) => return,
        };
        let Some(service) = self.services.get_mut(id.0 as usize) else { return };
        let mut turn = Turn { now, out, incidents: &mut self.incidents };
        match observation {
            Observation::Running(_, main) => service.running(main, &mut turn),
            Observation::Listening(_, ports) => service.listening(ports),
            Observation::Exit(exit, member, event) => service.exited(exit, member.main, event, &mut turn),
            Observation::OomKill(kill, _, event) => service.oom_killed(kill, event),
            Observation::Listener(listener, _, event) => service.listener(&listener, event, &mut turn),
            Observation::Probe(report) => service.probed(report, &mut turn),
            Observation::Unit(_, state) => service.unit(state, &mut turn),
            Observation::UnitUnknown(_, error) => service.unit_unknown(&error, &mut turn),
            Observation::Restarted(_, outcome) => service.restarted(outcome, &mut turn),
            Observation::Usage(_, usage) => service.used(usage),
            Observation::SocketError(..)
            | Observation::Retransmits(..)
            | Observation::AcceptQueue(..)
            | Observation::Suspended(..)
            | Observation::Connected { .. }
            | Observation::Examined(..)
            | Observation::Snapshot(..)
            | Observation::PortHolder(..)
            | Observation::Holders(..)
            | Observation::Pressure(_) => {}
        }
        service.settle(&mut turn);
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Timestamp, out: &mut impl Outbox) {
        for service in &mut self.services {
            if service.deadline().is_some_and(|due| due <= now) {
                let mut turn = Turn { now, out, incidents: &mut self.incidents };
                service.due(&mut turn);
                service.settle(&mut turn);
            }
        }
    }

    /// When [`Engine::tick`] is next needed.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.services.iter().filter_map(Service::deadline).min()
    }

    /// The services as an onlooker sees them, in the order of their ids.
    pub fn view(&self) -> impl Iterator<Item = ServiceView> {
        self.services.iter().map(Service::view)
    }
}

/// One observation or deadline being worked on.
struct Turn<'a, O> {
    now: Timestamp,
    out: &'a mut O,
    incidents: &'a mut u64,
}

impl<O: Outbox> Turn<'_, O> {
    fn emit(&mut self, fact: Fact) -> EventId {
        self.out.emit(fact, self.now)
    }

    fn act(&mut self, effect: Effect) {
        self.out.act(effect);
    }

    fn next_incident(&mut self) -> IncidentId {
        *self.incidents += 1;
        IncidentId(*self.incidents)
    }
}
