//! The ends of its processes, and what explains them.

use std::time::Duration;

use super::{DeadWorker, Fault, RecoveryState, Service, YOUNG};
use crate::{
    engine::{ctx::Ctx, effect::Effects, verdict},
    fact::{EventId, ExitStatus, OomKill, ProcessExit},
};

/// How long a successor of a main process that ended well may take to be found.
const SUCCESSION: Duration = Duration::from_millis(250);

/// The most OOM kills that wait for the exits that follow them.
const MAX_OOMS: usize = 16;

impl Service {
    /// A process of the service ended.
    pub(super) fn exited<E: Effects>(
        &mut self,
        exit: ProcessExit,
        main: bool,
        event: EventId,
        ctx: &mut Ctx<'_, E>,
    ) {
        if !main || self.main != Some(exit.process.key) {
            return self.worker_ended(&exit, event, ctx);
        }
        let dead_worker = self.dead_worker.take();
        let had_ports = self.ports.iter().all(|port| self.listeners.contains_key(port));
        self.main = None;
        self.is_another_process();
        self.listeners.clear();
        if matches!(self.recovery, RecoveryState::Restarting { .. }) {
            // It ends because it is being restarted.
            return;
        }
        let oom = self.take_oom(&exit);
        let finding = verdict::of_exit(&exit, oom.as_ref().map(|(kill, _)| kill));
        let mut evidence = vec![event];
        evidence.extend(oom.map(|(_, event)| event));
        evidence.extend(dead_worker.map(DeadWorker::into_evidence).unwrap_or_default());
        let failed = matches!(exit.status, ExitStatus::Code(code) if code != 0);
        let young = failed && exit.uptime() < YOUNG && !had_ports;
        let fault = Fault { since: exit.at, evidence, young, ..Fault::now(ctx.now, finding) };
        if self.is_unit {
            self.inspect(fault, Some(exit), ctx);
        } else if self.is_matched && exit.status == ExitStatus::Code(0) {
            // A daemon that forks itself away, or an upgrade in place: its successor is being looked for.
            let until = ctx.now.plus(SUCCESSION);
            self.recovery = RecoveryState::AwaitingSuccessor { until, fault: Box::new(fault) };
        } else {
            self.fail(fault, ctx);
        }
    }

    /// The OOM killer chose one of its processes; the exit that follows is explained by it.
    pub(super) fn oom_killed(&mut self, kill: OomKill, event: EventId) {
        if self.ooms.len() == MAX_OOMS {
            self.ooms.pop_front();
        }
        self.ooms.push_back((kill, event));
    }

    /// The OOM kill that an exit follows.
    pub(super) fn take_oom(&mut self, exit: &ProcessExit) -> Option<(OomKill, EventId)> {
        let pid = exit.process.key.pid;
        let at = self.ooms.iter().position(|(kill, _)| kill.victim.key.pid == pid)?;
        self.ooms.remove(at)
    }
}
