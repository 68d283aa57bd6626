//! Listeners of the service whose accept queue is full.

use super::model::{EMPTY_FOR, Fault, Service, Timer, full_queue_words};
use crate::{
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        rules::{self, Obstacle},
        verdict::{Finding, Remedy},
    },
    fact::{AcceptQueue, EventId, Examination, Response, Verdict},
};

impl Service {
    /// An accept queue is full. An examination tells whether the service is busy or stuck.
    pub(super) fn on_accept_queue<E: Effects>(
        &mut self,
        queue: &AcceptQueue,
        event: EventId,
        ctx: &mut Ctx<'_, E>,
    ) {
        let since = self.full_queues.take_in(queue, ctx.now);
        if let Some(open) = &mut self.incident {
            if open.verdict() == Verdict::BacklogFull {
                open.add_evidence(vec![event]);
                self.timers.set(Timer::BacklogEmpty, Some(ctx.now.plus(EMPTY_FOR)));
            }
            return;
        }
        if self.listeners.expects(queue.port) {
            ctx.request(Effect::ProbeNow(self.settings.id));
            self.examine(Examination::OVER, None, ctx);
        }
        // Probes that fail say more: the service may hang.
        let fails = self.probes.iter().any(|probe| probe.is_failing());
        let Some(since) = since.filter(|_| !fails && self.is_idle() && self.main.is_some()) else { return };
        let remedy = match self.settings.policy.backlog_full {
            Response::Ignore => return,
            Response::Alert => Remedy::Hold(rules::of_obstacle(Obstacle::Backlog).reason.to_owned()),
            Response::Restart => Remedy::Restart,
        };
        let summary = full_queue_words(queue, ctx.now.since(since));
        let finding = Finding::new(Verdict::BacklogFull, 1.0, summary);
        self.timers.set(Timer::BacklogEmpty, Some(ctx.now.plus(EMPTY_FOR)));
        let evidence = vec![event];
        let fault = Fault { since, evidence, remedy, degraded: true, ..Fault::now(ctx.now, finding) };
        self.fail_alive(fault, ctx);
    }
}
