//! A service that is proved to be stuck before a probe of it has timed out.

use super::model::{FailureStreak, ProbeState, Service};
use crate::{
    engine::{ctx::Ctx, effect::Effects, verdict},
    fact::{Examination, Fact, ProbeChange, ProbeFailure, ProbeOutcome, ProbeReport, Unanswered},
};

impl Service {
    /// Two attempts of a probe wait. What is no proof says nothing here: the timeouts are judged by what is seen then.
    pub(super) fn on_unanswered<E: Effects>(
        &mut self,
        unanswered: Unanswered,
        seen: Examination,
        ctx: &mut Ctx<'_, E>,
    ) {
        if !self.is_hung_before_timeout(&unanswered, &seen, ctx) {
            return;
        }
        let Unanswered { service, index, kind, target, since } = unanswered;
        let (at, duration) = (seen.at, seen.at.since(since));
        let detail =
            format!("{target} has answered neither of two requests after {} ms", duration.as_millis());
        self.generation.liveness.answer(Some(seen));
        let Some(probe) = self.probes.get_mut(index) else { return };
        let failure = ProbeFailure::Timeout;
        probe.fail(failure, at);
        let in_a_row = probe.count_failure(at, failure, None);
        let report = ProbeReport {
            service,
            index,
            at,
            kind,
            target,
            duration,
            outcome: ProbeOutcome::Failed(failure, detail.clone()),
            hurried: None,
            remark: None,
            server: None,
        };
        let event = ctx.effects.publish(Fact::Probe(report, ProbeChange::Fail(in_a_row)), at);
        probe.add_evidence(event);
        self.judge(FailureStreak { index, failure, detail }, ctx);
    }

    fn is_hung_before_timeout<E: Effects>(
        &self,
        unanswered: &Unanswered,
        seen: &Examination,
        ctx: &Ctx<'_, E>,
    ) -> bool {
        let is_silent = |probe: &ProbeState| probe.is_silent_since(unanswered.since);
        // A service that waits for another one can look the same, and a daemon that is late sees an answer late.
        let is_alone = ctx.surroundings.alone && ctx.surroundings.dependencies.is_empty();
        verdict::is_hung_before_timeout(seen)
            && is_alone
            && ctx.surroundings.late.is_none()
            && self.probes.get(unanswered.index).is_some_and(is_silent)
            && ctx.now >= self.startup.grace_until()
            && self.is_idle()
            && self.incident.is_none()
            && !self.is_on_its_way(ctx.now)
    }
}
