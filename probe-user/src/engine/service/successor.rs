//! The process that takes the place of a supervised main process.
//!
//! An upgrade in place starts a second main process, which inherits the listener, and ends the first one. A command
//! that puts itself into the background exits while its daemon runs. A wrapper may end before the server that it
//! started. In all these cases the service works, and a restart would end it.

use std::time::Duration;

use super::model::{EARLY_EXIT, Fault, RecoveryState, Service, Succession};
use crate::{
    clock::Timestamp,
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        foreground,
        succession::{self, End, Judgement, Traits},
    },
    fact::{Action, ProcessExit, ServiceState, Successor, Verdict},
};

/// How long a process that was left in the background may take to listen.
const SEARCH: Duration = Duration::from_secs(2);

/// Between two searches.
const AGAIN: Duration = Duration::from_millis(100);

/// The time limit for the daemon to take in the successor.
const ADOPTION: Duration = Duration::from_secs(2);

/// Workers of a service that answers its probes have started this long after its first answer.
const WORKERS_STARTED: Duration = Duration::from_secs(1);

/// How the main process that ended had served its clients.
#[derive(Debug)]
pub(super) struct Served {
    pub ports: Vec<u16>,
    /// It listened on these ports.
    pub needs_ports: bool,
    pub healthy_at: Option<Timestamp>,
    /// It began to listen itself.
    pub listened: bool,
}

impl Service {
    /// Processes of the service may have outlived its main process, so the daemon searches for a successor first.
    pub(super) fn find_successor<E: Effects>(
        &mut self,
        fault: Fault,
        exit: &ProcessExit,
        end: End,
        served: Served,
        ctx: &mut Ctx<'_, E>,
    ) {
        let Served { ports, needs_ports, healthy_at, listened } = served;
        let is_healthy = self.state == ServiceState::Healthy;
        let has_clients = needs_ports || is_healthy && !self.probes.is_empty();
        let traits = Traits::HEALTHY
            .when(is_healthy)
            .and(Traits::AT_WORK.when(is_healthy || exit.uptime() >= EARLY_EXIT))
            .and(Traits::PORTLESS.when(!has_clients));
        // A service without probes is healthy as soon as it runs.
        let started = match self.probes.is_empty() {
            true => Some(exit.process.key.start.plus(EARLY_EXIT)),
            false => healthy_at.map(|at| at.plus(WORKERS_STARTED)),
        };
        let succession = Succession {
            end,
            fault,
            of: exit.process.key.pid,
            ports,
            needs_ports,
            traits,
            program: (exit.process.executable.clone(), exit.process.name.clone()),
            listened,
            workers_started: started,
            until: ctx.now.plus(SEARCH),
            waits: false,
            adopts: false,
        };
        self.search(Box::new(succession), ctx);
    }

    fn search<E: Effects>(&mut self, mut succession: Box<Succession>, ctx: &mut Ctx<'_, E>) {
        let (service, of, ports) = (self.settings.id, succession.of, succession.ports.clone());
        ctx.request(Effect::FindSuccessor { service, of, ports });
        succession.waits = false;
        // A search that does not answer finds nothing.
        let until = succession.until.plus(AGAIN);
        self.enter(RecoveryState::FindingSuccessor(succession), Some(until));
    }

    /// The wait before another search is over, or the search has not answered in time.
    pub(super) fn on_search_due<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if !matches!(self.recovery.state(), RecoveryState::FindingSuccessor(_)) {
            return;
        }
        let RecoveryState::FindingSuccessor(succession) = self.enter(RecoveryState::Idle, None) else {
            return;
        };
        if succession.waits { self.search(succession, ctx) } else { self.fail(succession.fault, ctx) }
    }

    pub(super) fn on_successor<E: Effects>(&mut self, found: Option<Successor>, ctx: &mut Ctx<'_, E>) {
        let RecoveryState::FindingSuccessor(succession) = self.recovery.state() else { return };
        if succession.adopts && found.is_some() {
            return;
        }
        let RecoveryState::FindingSuccessor(mut succession) = self.enter(RecoveryState::Idle, None) else {
            return;
        };
        let Some(found) = found else { return self.fail(succession.fault, ctx) };
        let is_listener = found.listens || succession.ports.is_empty() && found.listens_elsewhere;
        // Only after a success, a process may begin to listen that did not before.
        if !is_listener && succession.end == End::Success && ctx.now < succession.until {
            succession.waits = true;
            self.enter(RecoveryState::FindingSuccessor(succession), Some(ctx.now.plus(AGAIN)));
            return;
        }
        let traits = succession.traits_of(&found);
        if succession.fault.finding.verdict == Verdict::Stopped && !traits.has(Traits::SERVES) {
            // A helper outlives its service for a moment when an operator stops the service.
            return self.fail(succession.fault, ctx);
        }
        match succession::judge(succession.end, traits) {
            Judgement::Upgraded => self.succeed(succession, &found, ctx),
            Judgement::Left => {
                self.tell_left(&succession, &found, ctx);
                self.succeed(succession, &found, ctx);
            }
            Judgement::Unfit => self.fail(succession.fault, ctx),
        }
    }

    /// The incident of a main process that left a process behind: it is the main process from now on.
    fn tell_left<E: Effects>(&mut self, succession: &Succession, found: &Successor, ctx: &mut Ctx<'_, E>) {
        let Successor { process, name, .. } = found;
        let pid = process.pid;
        let mut fault = succession.fault.clone();
        fault.early_exit = false;
        let left = if succession.end == End::Success {
            let left = format!("it left {name} (pid {pid}) in the background");
            let program = self.settings.program.as_deref().unwrap_or_default();
            fault.finding.summary.add(format!("{left}: {}", foreground::hint(&[program, name])));
            left
        } else {
            let left = format!("its process {name} (pid {pid}) still serves");
            fault.finding.summary.add(left.clone());
            left
        };
        if fault.finding.verdict == Verdict::Stopped {
            // It was no stop: the service goes on.
            fault.finding.verdict = Verdict::Exited;
        }
        self.open_or_update(fault, ctx);
        self.publish_restart(Action::Hold(format!("{left}, which now is its main process")), ctx);
    }

    fn succeed<E: Effects>(
        &mut self,
        mut succession: Box<Succession>,
        found: &Successor,
        ctx: &mut Ctx<'_, E>,
    ) {
        ctx.request(Effect::Adopt { service: self.settings.id, process: found.process });
        succession.adopts = true;
        self.enter(RecoveryState::FindingSuccessor(succession), Some(ctx.now.plus(ADOPTION)));
    }
}

impl Succession {
    fn traits_of(&self, found: &Successor) -> Traits {
        let serves = found.listens || !self.needs_ports && found.listens_elsewhere;
        let program = (self.program.0.as_deref(), self.program.1.as_str());
        let is_peer = self.listened || succession::is_same_program(program, found);
        let is_later = self.workers_started.is_some_and(|started| found.process.start >= started);
        self.traits
            .and(Traits::SERVES.when(serves))
            .and(Traits::EXECUTED.when(found.executed))
            .and(Traits::LEADS.when(found.leads))
            .and(Traits::SOLE.when(found.sole))
            .and(Traits::LATER.when(is_later))
            .and(if is_peer { Traits::PEER } else { Traits::WRAPPED })
    }
}
