//! Processes of a service beside its main one.

use std::time::Duration;

use super::{Fault, RecoveryState, Remedy, Service, incident::MAX_EVIDENCE};
use crate::{
    clock::Timestamp,
    config::Response,
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        verdict,
    },
    fact::{EventId, ExitStatus, Fact, Phase, ProcessExit, Sender, Verdict},
};

/// How long the main process may outlive a worker that it dies with.
const TOGETHER: Duration = Duration::from_millis(50);

/// Workers that die again sooner than this do so again and again: the incident then lasts…
const AGAIN: Duration = Duration::from_secs(60);

/// …until none has died for this long, however well the service answers in between.
const QUIET: Duration = Duration::from_secs(30);

/// Workers that died, before it is clear whether their main process lives on.
#[derive(Debug)]
pub(super) struct DeadWorker {
    pub(super) until: Timestamp,
    /// How many.
    count: u32,
    fault: Fault,
}

impl DeadWorker {
    /// The events that show it.
    pub(super) fn into_evidence(self) -> Vec<EventId> {
        self.fault.evidence
    }
}

impl Service {
    /// A process of the service ended that is not its main one.
    pub(super) fn worker_ended<E: Effects>(
        &mut self,
        exit: &ProcessExit,
        event: EventId,
        ctx: &mut Ctx<'_, E>,
    ) {
        let oom = self.take_oom(exit);
        // What one process of it does to another is its own affair; one that aborts has crashed.
        let by_sender = matches!(exit.killer(), Some(Sender::Process { .. }));
        let own = by_sender && exit.sender_service == Some(self.id) && !exit.oom && oom.is_none();
        let leaving = self.main.is_none()
            || matches!(
                self.recovery,
                RecoveryState::Restarting { .. } | RecoveryState::SystemdRestarting { .. }
            );
        if own || leaving || self.response.worker_died == Response::Ignore {
            return;
        }
        let Some(finding) = verdict::of_worker(exit, oom.as_ref().map(|(kill, _)| kill)) else { return };
        let mut evidence = vec![event];
        evidence.extend(oom.map(|(_, event)| event));
        // Where senders are not seen, a kill is no fault of its own; a signal that a fault raises is.
        let by_itself = match (exit.status, &exit.sender) {
            (_, _) if exit.oom || evidence.len() > 1 => true,
            (ExitStatus::Signal { number, core_dumped }, None) => {
                core_dumped || verdict::raised_by_fault(number)
            }
            (_, _) => !by_sender,
        };
        let remedy = match self.response.worker_died {
            Response::Restart if exit.sender.is_none() && !by_itself => {
                Remedy::Hold("who killed it could not be seen: its own main process may have".to_owned())
            }
            Response::Restart => Remedy::Restart,
            Response::Alert | Response::Ignore => {
                Remedy::Hold("its main process lives, and it is its own to replace its workers".to_owned())
            }
        };
        let mut fault = Fault {
            since: exit.at,
            evidence,
            remedy,
            degraded: true,
            // One that was killed and replaced is nobody's alarm; one that fails by itself will fail again.
            urgent: by_itself,
            ..Fault::now(ctx.now, finding)
        };
        let (mut until, mut count) = (ctx.now.plus(TOGETHER), 1_u32);
        if let Some(mut earlier) = self.dead_worker.take() {
            // However many follow, it is the first that is waited for.
            until = earlier.until;
            count = count.saturating_add(earlier.count);
            fault.since = earlier.fault.since;
            fault.urgent |= earlier.fault.urgent;
            if earlier.fault.evidence.len() < MAX_EVIDENCE {
                earlier.fault.evidence.append(&mut fault.evidence);
            }
            fault.evidence = earlier.fault.evidence;
        }
        self.dead_worker = Some(DeadWorker { until, count, fault });
    }

    /// The main process has outlived its worker.
    pub(super) fn worker_is_dead<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let Some(DeadWorker { fault, count, .. }) = self.dead_worker.take() else { return };
        let before = self.dead_workers;
        self.dead_workers = before.saturating_add(count);
        let again = self.worker_died_at.replace(ctx.now).is_some_and(|last| ctx.now.since(last) < AGAIN);
        // Where a restart is to mend it, the next death has its restart.
        self.quiet_at = (again && fault.remedy != Remedy::Restart).then(|| ctx.now.plus(QUIET));
        match &mut self.incident {
            None => {
                if fault.remedy == Remedy::Restart {
                    self.fail_alive(fault, ctx);
                } else {
                    self.fail(fault, ctx);
                }
                ctx.request(Effect::ProbeNow(self.id));
            }
            // A worker that dies again and again is told of ever more seldom.
            Some(open) if open.incident.verdict == Verdict::WorkerDied => {
                open.add_evidence(fault.evidence);
                open.incident.summary =
                    format!("{} workers died; {}", self.dead_workers, fault.finding.summary);
                if self.dead_workers.ilog2() > before.max(1).ilog2() {
                    ctx.publish(Fact::Incident(Phase::Update, open.incident.clone()));
                }
            }
            Some(open) => open.add_evidence(fault.evidence),
        }
    }
}
