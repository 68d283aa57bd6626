//! Exits of its processes.

use std::time::Duration;

use super::{
    model::{DeadWorkers, EARLY_EXIT, Fault, RecoveryState, Service},
    successor::Served,
};
use crate::{
    config::OnCleanExit,
    engine::{ctx::Ctx, effect::Effects, succession::End, verdict},
    fact::{EventId, ExitStatus, ProcessExit, Verdict},
};

/// The time limit for a successor of a main process that exited with success.
const SUCCESSION: Duration = Duration::from_millis(250);

impl Service {
    pub(super) fn on_exit<E: Effects>(
        &mut self,
        exit: ProcessExit,
        main: bool,
        event: EventId,
        ctx: &mut Ctx<'_, E>,
    ) {
        if !main || self.main != Some(exit.process.key) {
            return self.on_worker_exit(&exit, event, ctx);
        }
        let dead_worker = self.generation.dead_workers.take();
        let dead_child = self.generation.dead_child.take();
        let had_ports = self.listeners.has_all_expected();
        let (ports, needs_ports) = self.listeners.to_pass_on();
        let (healthy_at, listened) = (self.generation.healthy_at, self.generation.listened);
        self.main = None;
        self.reset_generation();
        self.listeners.clear();
        if self.is_kept_stopped() {
            self.stop_pending = false;
            self.enter(RecoveryState::Idle, None);
            return;
        }
        if matches!(self.recovery.state(), RecoveryState::Restarting { .. }) {
            // A restart ends it.
            return;
        }
        let oom = self.oom_kills.take(&exit);
        let mut finding = verdict::of_exit(&exit, oom.as_ref().map(|(kill, _)| kill));
        let mut evidence = vec![event];
        evidence.extend(oom.map(|(_, event)| event));
        evidence.extend(dead_worker.map(DeadWorkers::into_evidence).unwrap_or_default());
        let mut is_clean = verdict::is_clean(&exit, self.settings.id);
        if let Some(child) = dead_child.filter(|child| child.explains(&exit)) {
            if child.is_repeated_by(&exit) {
                finding.verdict = child.verdict;
                is_clean |= child.asked;
            }
            finding.summary.add(child.words);
            evidence.push(child.event);
        }
        evidence.dedup();
        if is_clean && self.settings.restart.on_clean_exit == OnCleanExit::Never {
            // No incident: `fail` takes it for a stop.
            finding.verdict = Verdict::Stopped;
        }
        let failed = matches!(exit.status, ExitStatus::Code(code) if code != 0);
        let early_exit = failed && exit.uptime() < EARLY_EXIT && !had_ports;
        let oom = finding.verdict == Verdict::OomKilled;
        let actor = exit.actor.clone();
        let fault =
            Fault { since: exit.at, evidence, early_exit, oom, actor, ..Fault::now(ctx.now, finding) };
        if self.settings.is_unit {
            self.inspect(fault, Some(exit), ctx);
        } else if self.settings.is_matched && exit.status == ExitStatus::Code(0) {
            // A daemon that forks into the background, or an upgrade in place. The daemon searches for the
            // successor.
            let until = ctx.now.plus(SUCCESSION);
            self.enter(RecoveryState::AwaitingSuccessor(Box::new(fault)), Some(until));
        } else if self.settings.is_supervised && exit.left_processes {
            let end = End::of(&exit, is_clean, fault.finding.verdict);
            let served = Served { ports, needs_ports, healthy_at, listened };
            self.find_successor(fault, &exit, end, served, ctx);
        } else {
            self.fail(fault, ctx);
        }
    }
}
