//! The state machine: observations in, facts and effects out.
//!
//! It does no I/O, takes the time as an argument and cannot fail, so that a recorded stream of observations leads
//! to the same decisions again. It publishes facts and requests effects through [`Effects`]. The outcomes of
//! effects come back as observations.

pub mod budget;
mod ctx;
mod dependency;
mod drill;
mod effect;
mod fleet;
mod foreground;
mod host;
mod host_budget;
mod overload;
mod own_incident;
mod own_trouble;
mod reload;
mod remembered;
mod reported;
pub mod rules;
mod service;
mod succession;
mod surroundings;
pub mod unit;
pub mod verdict;
mod view;

#[cfg(test)]
mod tests;

use ctx::{Ctx, Input};
use dependency::Dependencies;
pub use effect::{EarlySample, Effect, Effects};
use fleet::Fleet;
use host::Host;
use host_budget::HostBudget;
use overload::Overload;
use own_trouble::{Attempt, OwnTrouble};
use service::Service;
use surroundings::{Cause, NeededService, Standing, Surroundings};
pub use view::ServiceView;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    clock::Timestamp,
    config,
    fact::{Incident, Observation, RestartBudget, ServiceId},
};

/// All services and their recoveries.
#[derive(Debug)]
pub struct Engine {
    services: BTreeMap<ServiceId, Service>,
    names: BTreeMap<ServiceId, String>,
    /// Restarts none of them.
    observe: bool,
    dependencies: Dependencies,
    overload: Overload,
    own_trouble: OwnTrouble,
    host_budget: HostBudget,
    fleet: Fleet,
    host: Host,
    incidents: u64,
    /// The number of services with probes.
    probed: usize,
    /// The services whose first start waits for others.
    to_start: BTreeSet<ServiceId>,
    /// The daemon cannot see connections, so any service may depend on any other.
    connections_unseen: bool,
}

impl Engine {
    /// Whether it restarts no service, whatever the configuration says.
    pub fn only_observes(&self) -> bool {
        self.observe
    }

    /// Starts to watch `services` at `now`. With `observe`, the engine restarts none of them.
    pub fn new(services: &[config::Service], observe: bool, now: Timestamp) -> Self {
        let mut engine = Self {
            services: BTreeMap::new(),
            names: BTreeMap::new(),
            observe,
            dependencies: Dependencies::default(),
            overload: Overload::default(),
            own_trouble: OwnTrouble::default(),
            host_budget: HostBudget::default(),
            fleet: Fleet::default(),
            host: Host::default(),
            incidents: 0,
            connections_unseen: false,
            probed: 0,
            to_start: BTreeSet::new(),
        };
        for (id, service) in (0..).map(ServiceId).zip(services) {
            engine.add(id, &service.settings(), now);
        }
        engine
    }

    /// With this restart budget of all services together.
    pub fn with_restart_budget(mut self, budget: RestartBudget) -> Self {
        self.host_budget = HostBudget::new(budget);
        self
    }

    /// Handles one observation made at `now`.
    pub fn observe(&mut self, now: Timestamp, observation: Observation, effects: &mut impl Effects) {
        match observation {
            Observation::Connected { client, server } => {
                if self.service(client).is_some() && self.service(server).is_some() {
                    self.dependencies.learn(client, server);
                }
            }
            Observation::Host(reading) => {
                if self.host.observe(reading, now, &mut self.incidents, effects) {
                    self.on_host_changed(now, effects);
                }
            }
            Observation::Remembered(ServiceId::HOST, memory) => self.host.remember(*memory, now, effects),
            Observation::Pressure(pressure) => self.overload.pressure(&pressure),
            Observation::RestartBudget(budget) => {
                self.host_budget.configure(budget);
                self.release_held(now, effects);
            }
            Observation::ConnectionsUnseen => self.connections_unseen = true,
            Observation::Foreign(foreign) => self.on_foreign(*foreign, now, effects),
            Observation::Fleet(state) => self.fleet.observe(state, now, &mut self.incidents, effects),
            Observation::Configured(id, settings) => self.configure(id, settings, now, effects),
            Observation::Removed(id) => self.remove(id, now, effects),
            Observation::Remembered(id, memory) if self.service(id).is_none() => {
                remembered::forget(id, *memory, now, effects)
            }
            Observation::Running(..)
            | Observation::Listening(..)
            | Observation::Exit(..)
            | Observation::OomKill(..)
            | Observation::Listener(..)
            | Observation::Probe(_)
            | Observation::Unanswered(..)
            | Observation::Unit(..)
            | Observation::UnitUnknown(..)
            | Observation::RestartOutcome(..)
            | Observation::RestartDelayed(..)
            | Observation::Usage(..)
            | Observation::Levels(..)
            | Observation::SocketError(..)
            | Observation::Retransmits(..)
            | Observation::AcceptQueue(..)
            | Observation::Suspended(..)
            | Observation::CoreSignal(..)
            | Observation::Examined(..)
            | Observation::Snapshot(..)
            | Observation::Stacks(..)
            | Observation::Context(..)
            | Observation::AskedToEnd(..)
            | Observation::OutsideRequest(..)
            | Observation::PortHolder(..)
            | Observation::Holders(..)
            | Observation::Successor(..)
            | Observation::ListenerChecked(..)
            | Observation::Remembered(..)
            | Observation::WritesTo(..)
            | Observation::HeldElsewhere(..)
            | Observation::Operator(..) => {
                self.note_own_trouble(&observation, now, effects);
                if let Some(id) = observation.service() {
                    self.handle(id, Input::Observation(Box::new(observation)), now, effects);
                }
            }
        }
        self.release_starts(now, effects);
        self.open_storm(now, effects);
        self.note_held_by_host(now, effects);
        self.keep_own_incidents(effects);
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Timestamp, effects: &mut impl Effects) {
        for id in self.services.keys().copied().collect::<Vec<_>>() {
            if self.service(id).and_then(Service::deadline).is_some_and(|due| due <= now) {
                self.handle(id, Input::Due, now, effects);
            }
        }
        self.own_trouble.tick(now, effects);
        if self.host.tick(now, effects) {
            self.on_host_changed(now, effects);
        }
        self.release_starts(now, effects);
        self.release_held(now, effects);
        self.open_storm(now, effects);
        if self.host_budget.is_due(now) {
            self.host_budget.tick(self.waiting_for_budget(), now, effects);
        }
        self.note_held_by_host(now, effects);
        self.keep_own_incidents(effects);
    }

    fn keep_own_incidents(&mut self, effects: &mut impl Effects) {
        let own = [self.own_trouble.incident(), self.host_budget.incident(), self.fleet.incident()];
        own_incident::keep_changes(own, effects);
        self.host.keep_changes(effects);
    }

    /// What the host lacks has changed: services that failed may have that as their cause, or may be started again.
    fn on_host_changed(&mut self, now: Timestamp, effects: &mut impl Effects) {
        let unwell = self.services.values().filter(|service| service.incident().is_some());
        for id in unwell.map(Service::id).collect::<Vec<_>>() {
            self.handle(id, Input::HostChanged, now, effects);
        }
    }

    fn note_held_by_host(&mut self, now: Timestamp, effects: &mut impl Effects) {
        if self.host.incidents().next().is_some() {
            let waits = |service: &Service| Some((service.id(), service.held_by_host()?.clone()));
            let held: Vec<_> = self.services.values().filter_map(waits).collect();
            self.host.set_held(&held, now, effects);
        }
    }

    /// Restarts services that waited for the budget of all services, as far as it has room: the longest wait first.
    fn release_held(&mut self, now: Timestamp, effects: &mut impl Effects) {
        for id in self.waiting_for_budget() {
            // What was released spends its restart only when systemd has answered.
            let released = self.services.values().filter(|service| service.has_its_turn()).count();
            if self.host_budget.left(now) <= released {
                return;
            }
            self.handle(id, Input::HostBudgetHasRoom, now, effects);
        }
    }

    fn open_storm(&mut self, now: Timestamp, effects: &mut impl Effects) {
        if self.host_budget.is_to_open() {
            let waiting = self.waiting_for_budget();
            self.host_budget.open_if_held(waiting, now, &mut self.incidents, effects);
        }
    }

    /// The services whose restarts wait for the budget of all services, the longest wait first.
    fn waiting_for_budget(&self) -> Vec<ServiceId> {
        let waits = |service: &Service| Some((service.waits_for_host_budget()?, service.id()));
        let mut waiting: Vec<_> = self.services.values().filter_map(waits).collect();
        waiting.sort();
        waiting.into_iter().map(|(_, id)| id).collect()
    }

    /// Starts the commands whose turn it is after other services.
    fn release_starts(&mut self, now: Timestamp, effects: &mut impl Effects) {
        for id in self.to_start.iter().copied().collect::<Vec<_>>() {
            let awaited = self.service(id).map(Service::start_after).unwrap_or_default();
            // A reload is about to add those that are not known yet.
            let known: Option<Vec<&Service>> = awaited.iter().map(|other| self.service(*other)).collect();
            let Some(known) = known else { continue };
            let down = known.into_iter().filter(|other| !other.is_up()).map(Service::id).collect();
            self.handle(id, Input::Awaited(down), now, effects);
        }
    }

    /// When [`Engine::tick`] is next needed.
    pub fn deadline(&self) -> Option<Timestamp> {
        let waits = self.services.values().any(|service| service.waits_for_host_budget().is_some());
        let own = [self.own_trouble.deadline(), self.host_budget.deadline(waits), self.host.deadline()];
        self.services.values().filter_map(Service::deadline).chain(own.into_iter().flatten()).min()
    }

    /// The services for the status page, in the order of their ids.
    pub fn view(&self) -> impl Iterator<Item = ServiceView> {
        self.services.values().map(|service| ServiceView {
            service: service.id(),
            depends_on: self.dependencies.of(service.id()).map(|(on, _)| on).collect(),
            stale_since: self.own_trouble.stale_since(service.id()),
            ..service.view()
        })
    }

    /// Keeps the daemon's own trouble apart from that of the services.
    fn note_own_trouble(&mut self, observation: &Observation, now: Timestamp, effects: &mut impl Effects) {
        if let Observation::Probe(report) = observation {
            let attempt = (report.service, Attempt::Probe(report.index));
            let Some(detail) = own_trouble::unasked(report) else {
                return self.own_trouble.note_success(attempt, now);
            };
            let Some(service) = self.services.get_mut(&report.service) else { return };
            let is_known = self.own_trouble.is_known(attempt);
            let event = if is_known { None } else { service.publish_unasked(report, effects) };
            self.own_trouble.note(attempt, detail, event, now, &mut self.incidents, effects);
        } else if let Observation::RestartDelayed(id, error) = observation {
            let attempt = (*id, Attempt::Restart);
            self.own_trouble.note(attempt, error, None, now, &mut self.incidents, effects);
        } else if let Observation::RestartOutcome(id, _) = observation {
            self.own_trouble.note_success((*id, Attempt::Restart), now);
        }
    }

    /// Whether a start would change nothing, because the service runs.
    pub fn runs(&self, id: ServiceId) -> bool {
        self.service(id).is_some_and(Service::runs)
    }

    /// Whether a restart of the service was requested and is not made yet.
    pub fn awaits_restart(&self, id: ServiceId) -> bool {
        self.service(id).is_some_and(Service::awaits_restart)
    }

    /// Whether an operator's order keeps the service stopped.
    pub fn is_kept_stopped(&self, id: ServiceId) -> bool {
        self.service(id).is_some_and(Service::is_kept_stopped)
    }

    /// A service that waits for something that may never come, without a limit.
    #[cfg(test)]
    fn waits_without_limit(&self) -> Option<ServiceId> {
        self.services.values().find(|it| it.waits_without_limit()).map(Service::id)
    }

    /// Whether the first start of its command waits for other services.
    pub fn waits_to_start(&self, id: ServiceId) -> bool {
        self.service(id).is_some_and(Service::waits_to_start)
    }

    /// Whether its command waits for the end of a back-off, which may have begun in an earlier run of the daemon.
    pub fn is_backing_off(&self, id: ServiceId) -> bool {
        self.service(id).is_some_and(Service::is_backing_off)
    }

    /// The open incidents of the host.
    pub fn host_incidents(&self) -> impl Iterator<Item = &Incident> {
        self.host.incidents()
    }

    /// The open incident of a service.
    pub fn incident(&self, id: ServiceId) -> Option<Incident> {
        self.service(id)?.incident()
    }

    fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(&id)
    }

    /// Gives one service an input, and then its dependents if its standing has changed.
    fn handle(&mut self, id: ServiceId, input: Input, now: Timestamp, effects: &mut impl Effects) {
        let mut next = vec![(id, input)];
        // Services that depend on each other could loop for ever.
        let mut steps = 4 * self.services.len() + 4;
        while let Some((id, input)) = next.pop()
            && steps > 0
        {
            steps -= 1;
            let needed = self.needed(id, &input);
            for needed in needed.iter().filter(|needed| needed.failed) {
                self.dependencies.learn(id, needed.service);
            }
            let surroundings = Surroundings { needed, ..self.surroundings(id, now) };
            let Some(service) = self.services.get_mut(&id) else { continue };
            let before = service.standing();
            let mut ctx = Ctx {
                now,
                effects: &mut *effects,
                incidents: &mut self.incidents,
                names: &self.names,
                surroundings,
                restart_other: None,
                host_budget: &mut self.host_budget,
            };
            service.handle(input, &mut ctx);
            let restart_other = ctx.restart_other.take();
            let (after, timing_out) = (service.standing(), service.times_out());
            if service.waits_to_start() {
                self.to_start.insert(id);
            } else {
                self.to_start.remove(&id);
            }
            self.overload.note(id, timing_out, now);
            next.extend(restart_other.map(|(holder, why)| (holder, Input::ExhaustsPool(id, why))));
            if before == after {
                continue;
            }
            if let Standing::Held(cause) = after {
                next.push((cause, Input::DependentHeld(id)));
            }
            let dependents = if self.connections_unseen {
                // A service without an incident has nothing to judge again.
                let unwell = self.services.values().filter(|other| other.standing() != Standing::Well);
                unwell.map(Service::id).filter(|other| *other != id).collect()
            } else {
                self.dependencies.dependents(id)
            };
            next.extend(dependents.into_iter().map(|dependent| (dependent, Input::DependencyChanged)));
        }
    }

    /// The services among the units that a unit needs, where its state names them.
    fn needed(&self, id: ServiceId, input: &Input) -> Vec<NeededService> {
        let Input::Observation(observation) = input else { return Vec::new() };
        let Observation::Unit(_, state) = &**observation else { return Vec::new() };
        if state.needs.is_empty() {
            return Vec::new();
        }
        let others = self.services.values().filter(|other| other.id() != id);
        let needed = others.filter_map(|other| {
            let unit = other.unit_id().filter(|unit| state.needs.iter().any(|needed| needed.id == **unit))?;
            Some(NeededService { unit: unit.to_owned(), service: other.id(), failed: other.has_failed() })
        });
        needed.collect()
    }

    /// What a service needs to know of the others and of the host.
    fn surroundings(&self, id: ServiceId, now: Timestamp) -> Surroundings {
        let mut surroundings = Surroundings {
            pressed: self.overload.pressed(now).map(str::to_owned),
            late: self.overload.late(now).map(str::to_owned),
            host: self.host.trouble(),
            ..Surroundings::default()
        };
        for (on, declared) in self.dependencies.of(id) {
            let Some(service) = self.service(on) else {
                surroundings.causes.extend(self.fleet.cause(on));
                continue;
            };
            surroundings.dependencies.push(on);
            let root = match service.standing() {
                Standing::Held(cause) if cause.is_foreign() => {
                    surroundings.causes.extend(self.fleet.cause(cause));
                    None
                }
                Standing::Held(cause) => self.service(cause).filter(|it| it.standing() == Standing::Failed),
                Standing::Failed => Some(service),
                Standing::Well => None,
            };
            let root = root.filter(|root| root.id() != id);
            if let Some(cause) = root.and_then(|root| root.as_cause(declared)) {
                let circular = self.dependencies.reaches(cause.service, id);
                surroundings.causes.push(Cause { circular, ..cause });
            } else if service.is_suspect(now) && !self.dependencies.reaches(on, id) {
                surroundings.suspects.push(on);
            }
        }
        surroundings.causes.extend(self.guesses(id));
        surroundings.elsewhere = self.fleet.elsewhere(self.dependencies.of(id).map(|(on, _)| on));
        let blames = |id: ServiceId| {
            let doubtful = |it: &Service| it.is_suspect(now) || it.standing() != Standing::Well;
            self.dependencies.of(id).any(|(on, _)| self.service(on).is_some_and(doubtful))
        };
        surroundings.alone = surroundings.dependencies.is_empty()
            && surroundings.pressed.is_none()
            && !self.connections_unseen
            && self.overload.is_explained(|other| other == id || self.dependencies.reaches(other, id));
        surroundings.together = self.overload.together(now, self.probed, blames);
        surroundings
    }
}

impl Engine {
    /// The possible causes of a service's failure where the daemon cannot see connections: every other failed
    /// service, unless that one needs this service in turn.
    fn guesses(&self, id: ServiceId) -> impl Iterator<Item = Cause> {
        let others = self.connections_unseen.then(|| self.services.values()).into_iter().flatten();
        let failed = others.filter(move |it| it.id() != id && it.standing() == Standing::Failed);
        let known = move |other: ServiceId| self.dependencies.of(id).any(|(on, _)| on == other);
        let apart = failed.filter(move |it| !known(it.id()) && !self.dependencies.reaches(it.id(), id));
        apart.filter_map(|other| Some(Cause { guessed: true, ..other.as_cause(false)? }))
    }
}
