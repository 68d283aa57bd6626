//! A service's workers: its processes besides the main one.

use std::time::Duration;

use super::model::{DeadChild, DeadWorkers, Fault, RecoveryState, Service, TOGETHER, Timer};
use crate::{
    config::Response,
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        verdict::{self, Remedy},
    },
    fact::{EventId, ExitStatus, Fact, OomKill, Phase, ProcessExit, Sender},
};

/// After repeated deaths the incident lasts until no worker has died for this long, also if the service answers in
/// between.
const QUIET: Duration = Duration::from_secs(30);

impl Service {
    pub(super) fn on_worker_exit<E: Effects>(
        &mut self,
        exit: &ProcessExit,
        event: EventId,
        ctx: &mut Ctx<'_, E>,
    ) {
        let oom = self.oom_kills.take(exit);
        self.note_dead_child(exit, oom.as_ref().map(|(kill, _)| kill), event);
        // A kill between two processes of the service is no fault; an abort is a crash.
        let by_sender = matches!(exit.killer(), Some(Sender::Process { .. })) || exit.namespace_end.is_some();
        let own = by_sender && exit.sender_service == Some(self.settings.id) && !exit.oom && oom.is_none();
        let leaving = self.main.is_none()
            || matches!(
                self.recovery.state(),
                RecoveryState::Restarting { .. } | RecoveryState::SystemdRestarting
            );
        if own || leaving || self.settings.policy.worker_died == Response::Ignore {
            return;
        }
        let Some(finding) = verdict::of_worker(exit, oom.as_ref().map(|(kill, _)| kill)) else { return };
        let mut evidence = vec![event];
        let for_memory = exit.oom || oom.is_some() || verdict::memory_killer(exit).is_some();
        evidence.extend(oom.map(|(_, event)| event));
        // Without a known sender, a kill is not the worker's fault. A signal that a fault raises is.
        let by_itself = match (exit.status, &exit.sender) {
            (_, _) if for_memory => true,
            (ExitStatus::Signal { number, core_dumped }, None) => {
                core_dumped || verdict::raised_by_fault(number)
            }
            (_, _) => !by_sender,
        };
        let remedy = match self.settings.policy.worker_died {
            Response::Restart if exit.sender.is_none() && !by_itself => {
                Remedy::Hold("the sender of the signal is unknown and may be the main process".to_owned())
            }
            Response::Restart => Remedy::Restart,
            Response::Alert | Response::Ignore => {
                Remedy::Hold("its main process lives and has to replace its workers".to_owned())
            }
        };
        let fault = Fault {
            since: exit.at,
            evidence,
            remedy,
            degraded: true,
            // A killed worker is replaced without an alert. A worker that failed by itself will fail again.
            urgent: by_itself,
            oom: for_memory,
            actor: exit.actor.clone(),
            ..Fault::now(ctx.now, finding)
        };
        // The first death sets the timer.
        if let Some(earlier) = self.generation.dead_workers.take() {
            self.generation.dead_workers = Some(earlier.and(fault));
        } else {
            self.generation.dead_workers = Some(DeadWorkers::one(fault));
            self.timers.set(Timer::WorkerDied, Some(ctx.now.plus(TOGETHER)));
        }
    }

    /// Remembers how a child ended, in case its main process ends because of it.
    fn note_dead_child(&mut self, exit: &ProcessExit, oom: Option<&OomKill>, event: EventId) {
        let Some(words) = verdict::child_words(exit, oom) else { return };
        let child = DeadChild {
            at: exit.at,
            event,
            words,
            status: exit.status,
            verdict: verdict::of_exit(exit, oom).verdict,
            orderly: verdict::is_orderly(exit),
            asked: verdict::is_clean(exit, self.settings.id),
        };
        if self.generation.dead_child.as_ref().is_none_or(|earlier| child.replaces(earlier)) {
            self.generation.dead_child = Some(child);
        }
    }

    pub(super) fn on_worker_died<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let Some(dead) = self.generation.dead_workers.take() else { return };
        let (fault, count) = dead.into_parts();
        let before = self.worker_deaths.count();
        let again = self.worker_deaths.add(count, ctx.now);
        let deaths = self.worker_deaths.count();
        // If the policy is a restart, the next death causes it.
        self.timers.set(
            Timer::WorkersQuiet,
            (again && fault.remedy != Remedy::Restart).then(|| ctx.now.plus(QUIET)),
        );
        match &mut self.incident {
            None => {
                if fault.remedy == Remedy::Restart {
                    self.fail_alive(fault, ctx);
                } else {
                    self.fail(fault, ctx);
                }
                ctx.request(Effect::ProbeNow(self.settings.id));
            }
            // Repeated deaths are published less and less often.
            Some(open) if open.verdict() == fault.finding.verdict => {
                open.add_evidence(fault.evidence);
                open.set_summary(format!("{deaths} workers died; {}", fault.finding.summary).into());
                if deaths.ilog2() > before.max(1).ilog2() {
                    ctx.publish(Fact::Incident(Phase::Update, open.published()));
                }
            }
            Some(open) => open.add_evidence(fault.evidence),
        }
    }
}
