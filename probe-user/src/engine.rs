//! The state machine: observations in, facts and effects out.
//!
//! It does no I/O, takes the time as an argument and cannot fail, so that a recorded stream of observations
//! leads to the same decisions again. What it says goes to the [`Outbox`] as facts; what is to be done goes
//! there as [`Effect`]s, whose outcomes come back as observations.

pub mod budget;
mod dependency;
mod overload;
mod service;
pub mod unit;
pub mod verdict;

#[cfg(test)]
mod tests;

use std::time::Duration;

use dependency::Dependencies;
use overload::Overload;
use service::{Service, Standing};

use crate::{
    clock::Timestamp,
    config,
    fact::{
        EventId, Fact, Incident, IncidentId, Observation, RestartMethod, ServiceId, ServiceState, Verdict,
    },
};

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
        /// A first look that may have been taken already.
        ahead: Option<Ahead>,
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

/// A first look that serves although it was taken before it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// One that is older says nothing.
    pub since: Timestamp,
    /// Time between it and the second look, at least.
    pub over: Duration,
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
    names: Vec<String>,
    dependencies: Dependencies,
    overload: Overload,
    incidents: u64,
    /// How many services are probed.
    probed: usize,
    /// Any service may depend on any other, for all that can be seen.
    connections_unseen: bool,
}

impl Engine {
    /// Starts to watch `services` at `now`; with `observe`, none of them is restarted.
    pub fn new(services: &[config::Service], observe: bool, now: Timestamp) -> Self {
        Self {
            names: services.iter().map(|service| service.name.clone()).collect(),
            dependencies: Dependencies::declared(services),
            overload: Overload::default(),
            incidents: 0,
            connections_unseen: false,
            probed: services.iter().filter(|service| !service.probes.is_empty()).count(),
            services: (0..)
                .zip(services)
                .map(|(at, spec)| Service::new(ServiceId(at), spec, observe, now))
                .collect(),
        }
    }

    /// Takes in one observation made at `now`.
    pub fn observe(&mut self, now: Timestamp, observation: Observation, out: &mut impl Outbox) {
        match observation {
            Observation::Connected { client, server } => {
                if self.service(client).is_some() && self.service(server).is_some() {
                    self.dependencies.learn(client, server);
                }
            }
            Observation::Pressure(pressure) => self.overload.pressure(&pressure),
            Observation::ConnectionsUnseen => self.connections_unseen = true,
            of_a_service => {
                if let Some(id) = of_a_service.service() {
                    self.work(id, Work::Observe(Box::new(of_a_service)), now, out);
                }
            }
        }
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Timestamp, out: &mut impl Outbox) {
        for at in 0..self.services.len() {
            if self.services[at].deadline().is_some_and(|due| due <= now) {
                self.work(self.services[at].id(), Work::Due, now, out);
            }
        }
    }

    /// When [`Engine::tick`] is next needed.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.services.iter().filter_map(Service::deadline).min()
    }

    /// The services as an onlooker sees them, in the order of their ids.
    pub fn view(&self) -> impl Iterator<Item = ServiceView> {
        self.services.iter().map(|service| ServiceView {
            depends_on: self.dependencies.of(service.id()).map(|(on, _)| on).collect(),
            ..service.view()
        })
    }

    fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(id.0 as usize)
    }

    /// Has one service work, and then those that depend on it, as far as it matters to them.
    fn work(&mut self, id: ServiceId, work: Work, now: Timestamp, out: &mut impl Outbox) {
        let mut next = vec![(id, work)];
        // Services that depend on each other could go on for ever.
        let mut steps = 4 * self.services.len() + 4;
        while let Some((id, work)) = next.pop()
            && steps > 0
        {
            steps -= 1;
            let around = self.around(id, now);
            let Some(service) = self.services.get_mut(id.0 as usize) else { continue };
            let before = service.standing();
            let mut turn = Turn {
                now,
                out: &mut *out,
                incidents: &mut self.incidents,
                names: &self.names,
                around,
                restart_other: None,
            };
            service.work(work, &mut turn);
            let restart_other = turn.restart_other.take();
            let (after, timing_out) = (service.standing(), service.times_out());
            self.overload.note(id, timing_out, now);
            next.extend(restart_other.map(|(holder, why)| (holder, Work::HoldsTooMuch(id, why))));
            if before == after {
                continue;
            }
            if let Standing::Held(cause) = after {
                next.push((cause, Work::Holds(id)));
            }
            let dependents = if self.connections_unseen {
                // Whoever has no incident has nothing to look at again.
                let unwell = self.services.iter().filter(|other| other.standing() != Standing::Well);
                unwell.map(Service::id).filter(|other| *other != id).collect()
            } else {
                self.dependencies.dependents(id)
            };
            next.extend(dependents.into_iter().map(|dependent| (dependent, Work::DependencyChanged)));
        }
    }

    /// What a service has to know of the others and of the host.
    fn around(&self, id: ServiceId, now: Timestamp) -> Around {
        let mut around =
            Around { pressed: self.overload.pressed(now).map(str::to_owned), ..Around::default() };
        for (on, declared) in self.dependencies.of(id) {
            let Some(service) = self.service(on) else { continue };
            around.dependencies.push(on);
            let root = match service.standing() {
                Standing::Held(cause) => self.service(cause).filter(|it| it.standing() == Standing::Failed),
                Standing::Failed => Some(service),
                Standing::Well => None,
            };
            let root = root.filter(|root| root.id() != id);
            if let Some(cause) = root.and_then(|root| root.as_cause(declared)) {
                let circular = self.dependencies.reaches(cause.service, id);
                around.causes.push(Cause { circular, ..cause });
            } else if service.is_suspect(now) && !self.dependencies.reaches(on, id) {
                around.suspects.push(on);
            }
        }
        around.causes.extend(self.guesses(id));
        let blames = |id: ServiceId| {
            let doubtful = |it: &Service| it.is_suspect(now) || it.standing() != Standing::Well;
            self.dependencies.of(id).any(|(on, _)| self.service(on).is_some_and(doubtful))
        };
        around.alone = around.dependencies.is_empty()
            && around.pressed.is_none()
            && !self.connections_unseen
            && self.overload.is_explained(|other| other == id || self.dependencies.reaches(other, id));
        around.together = self.overload.together(now, self.probed, blames);
        around
    }
}

impl Engine {
    /// What may have caused a service's failure where connections are not seen: whatever else has failed, unless that
    /// needs this service in turn.
    fn guesses(&self, id: ServiceId) -> impl Iterator<Item = Cause> {
        let others = self.services.iter().filter(move |other| self.connections_unseen && other.id() != id);
        let failed = others.filter(|other| other.standing() == Standing::Failed);
        let known = move |other: ServiceId| self.dependencies.of(id).any(|(on, _)| on == other);
        let apart = failed.filter(move |it| !known(it.id()) && !self.dependencies.reaches(it.id(), id));
        apart.filter_map(|other| Some(Cause { guessed: true, ..other.as_cause(false)? }))
    }
}

/// What one service is to do.
#[derive(Debug)]
enum Work {
    /// Take in an observation.
    Observe(Box<Observation>),
    /// Do what is due.
    Due,
    /// Look again at what it depends on: something about that has changed.
    DependencyChanged,
    /// Take note of a service that is held because of it.
    Holds(ServiceId),
    /// It holds more than its share of what another service has, in words: that is to be mended.
    HoldsTooMuch(ServiceId, String),
}

/// What a service has to know of the others and of the host.
#[derive(Debug, Default)]
struct Around {
    /// What it depends on.
    dependencies: Vec<ServiceId>,
    /// What has failed of that, down to the root.
    causes: Vec<Cause>,
    /// What may be about to fail of that.
    suspects: Vec<ServiceId>,
    /// The host is pressed, in words.
    pressed: Option<String>,
    /// Many services time out together, in words.
    together: Option<String>,
    /// Nothing but the service itself could be why it is silent, for all that is known so far.
    alone: bool,
}

/// A service that has failed and that others depend on.
#[derive(Clone, Debug)]
struct Cause {
    service: ServiceId,
    verdict: Verdict,
    summary: String,
    since: Timestamp,
    /// The dependency was declared; a learned one may be a luxury.
    declared: bool,
    /// Somebody is told, or will be.
    told: bool,
    /// How many restarts were tried for it.
    attempts: u32,
    /// It depends on this service in turn.
    circular: bool,
    /// Nobody has seen that this service depends on it.
    guessed: bool,
}

/// One observation or deadline being worked on.
struct Turn<'a, O> {
    now: Timestamp,
    out: &'a mut O,
    incidents: &'a mut u64,
    names: &'a [String],
    around: Around,
    /// A service that is to be restarted for the sake of this one, and why.
    restart_other: Option<(ServiceId, String)>,
}

impl<O> Turn<'_, O> {
    fn name(&self, service: ServiceId) -> &str {
        self.names.get(service.0 as usize).map_or("", String::as_str)
    }
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
