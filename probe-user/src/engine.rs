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

use service::Service;

use crate::{
    clock::Timestamp,
    config,
    fact::{
        EventId, Fact, Incident, IncidentId, Listener, Membership, OomKill, ProbeReport, ProcessExit,
        ProcessKey, RestartMethod, ServiceId, ServiceState, UnitState,
    },
};

/// Everything that can change a decision.
#[derive(Clone, Debug)]
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
}

/// What a service's processes use together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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
    pub response_time: Option<std::time::Duration>,
    /// What is wrong with it, in a sentence.
    pub error: Option<String>,
    /// The incident that is open.
    pub incident: Option<Incident>,
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
            | Observation::Usage(id, _) => *id,
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
