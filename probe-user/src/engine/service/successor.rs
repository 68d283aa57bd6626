//! The process that takes the place of a supervised main process.
//!
//! An upgrade in place starts a second main process, which inherits the listener, and ends the first one. A command
//! that puts itself into the background exits while its daemon runs. In both cases the service is well, and a restart
//! would end it.

use std::time::Duration;

use super::model::{Fault, RecoveryState, Service, Succession};
use crate::{
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        foreground,
    },
    fact::{Action, ExitStatus, ProcessExit, ServiceState, Successor},
};

/// How long a process that was left in the background may take to listen.
const SEARCH: Duration = Duration::from_secs(2);

/// Between two searches.
const AGAIN: Duration = Duration::from_millis(100);

/// The time limit for the daemon to take in the successor.
const ADOPTION: Duration = Duration::from_secs(2);

impl Service {
    /// Processes of the service may have outlived its main process, so the daemon searches for a successor first.
    pub(super) fn find_successor<E: Effects>(
        &mut self,
        fault: Fault,
        exit: &ProcessExit,
        early: bool,
        ctx: &mut Ctx<'_, E>,
    ) {
        let succession = Succession {
            fault,
            of: exit.process.key.pid,
            exited_well: exit.status == ExitStatus::Code(0),
            early,
            was_healthy: self.state == ServiceState::Healthy,
            until: ctx.now.plus(SEARCH),
            waits: false,
            adopts: false,
        };
        self.search(Box::new(succession), ctx);
    }

    fn search<E: Effects>(&mut self, mut succession: Box<Succession>, ctx: &mut Ctx<'_, E>) {
        let (service, of, ports) = (self.settings.id, succession.of, self.listeners.expected());
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
        // Workers share the program of their main process, so they cannot stand in for one that failed.
        let serves = found.listens && (found.executed || succession.exited_well);
        let may_listen_yet = !self.listeners.expected().is_empty() && ctx.now < succession.until;
        if serves {
            self.succeed(succession, &found, ctx);
        } else if succession.exited_well && may_listen_yet {
            succession.waits = true;
            self.enter(RecoveryState::FindingSuccessor(succession), Some(ctx.now.plus(AGAIN)));
        } else if succession.exited_well && succession.early {
            self.succeed(succession, &found, ctx);
        } else {
            self.fail(succession.fault, ctx);
        }
    }

    /// The successor becomes the main process. If the command put it into the background, an incident says what to write
    /// instead.
    fn succeed<E: Effects>(
        &mut self,
        mut succession: Box<Succession>,
        found: &Successor,
        ctx: &mut Ctx<'_, E>,
    ) {
        let Successor { process, name, executed, .. } = found;
        let upgraded = *executed && (succession.was_healthy || !succession.early);
        if !upgraded {
            let program = self.settings.program.as_deref().unwrap_or_default();
            let pid = process.pid;
            let left = format!("it left {name} (pid {pid}) in the background");
            let mut fault = succession.fault.clone();
            fault.early_exit = false;
            fault.finding.summary.add(format!("{left}: {}", foreground::hint(&[program, name])));
            self.open_or_update(fault, ctx);
            self.publish_restart(Action::Hold(format!("{left}, which now is its main process")), ctx);
        }
        ctx.request(Effect::Adopt { service: self.settings.id, process: *process });
        succession.adopts = true;
        self.enter(RecoveryState::FindingSuccessor(succession), Some(ctx.now.plus(ADOPTION)));
    }
}
