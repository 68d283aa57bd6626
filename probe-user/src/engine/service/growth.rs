//! The growth of a service's resources towards their limits.

use super::model::{Fault, OpenIncident, Service};
use crate::{
    clock::Timestamp,
    engine::{
        ctx::Ctx,
        effect::Effects,
        rules::{self, Obstacle},
        verdict::{Finding, Remedy},
    },
    fact::{Fact, Phase, ResourceLevel, Response, Verdict},
};

impl Service {
    pub(super) fn on_levels<E: Effects>(&mut self, levels: &[ResourceLevel], ctx: &mut Ctx<'_, E>) {
        let (Some(main), Some(horizon)) = (self.main, self.settings.limits.growth) else { return };
        for level in levels {
            self.growth.take_in(level, horizon, main.start, ctx.now);
        }
        let Some(growth) = self.growth.exhausting(ctx.now) else { return };
        if let Some(open) = &mut self.incident {
            if open.verdict() == Verdict::Exhausting && self.growth.is_worth_telling(&growth) {
                open.set_summary(growth.words().into());
                self.growth.set_told(growth.forecast.left);
                let event = ctx.publish(Fact::Growth(growth, self.settings.id));
                open.add_evidence(vec![event]);
                ctx.publish(Fact::Incident(Phase::Update, open.published()));
            }
            return;
        }
        let remedy = match self.settings.policy.exhausting {
            Response::Ignore => return,
            Response::Alert => Remedy::Nothing,
            Response::Restart => Remedy::Await(rules::of_obstacle(Obstacle::Growth).reason.to_owned()),
        };
        let finding = Finding::new(Verdict::Exhausting, 0.9, growth.words());
        self.growth.set_told(growth.forecast.left);
        let evidence = vec![ctx.publish(Fact::Growth(growth, self.settings.id))];
        self.fail(Fault { evidence, remedy, degraded: true, ..Fault::now(ctx.now, finding) }, ctx);
        self.restart_in_window(ctx);
    }

    /// Restarts a service whose resource runs out, if its policy says so and a window of maintenance is open.
    pub(super) fn restart_in_window<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let wants = self.settings.policy.exhausting == Response::Restart
            && self.incident.as_ref().is_some_and(|open| open.verdict() == Verdict::Exhausting);
        let may = self.maintenance.is_some()
            && self.orders.pause.is_none()
            && !self.is_kept_stopped()
            && self.is_idle()
            && self.recovery.budget().left(ctx.now) > 0;
        if wants && may {
            self.restart(ctx);
        }
    }

    /// Whether the growth of the open incident goes on, also if an earlier run of the daemon found it.
    pub(super) fn grows(&self, open: &OpenIncident, now: Timestamp) -> bool {
        let is_same_process = self.main.is_some_and(|main| main.start < open.since());
        let goes_on_from_earlier = open.is_of_earlier_run() && is_same_process && self.growth.has_risen();
        self.growth.goes_on(now) || goes_on_from_earlier
    }
}
