//! A reload changed the settings of a service: what they do not concern stays as it is.

use super::model::{FailureStreak, ProbeState, RecoveryState, Service, Settings};
use crate::{
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
    },
    fact::ServiceSettings,
};

impl Service {
    pub(super) fn on_configured<E: Effects>(&mut self, given: &ServiceSettings, ctx: &mut Ctx<'_, E>) {
        let settings = Settings::new(self.settings.id, given, self.settings.observe);
        let before = std::mem::replace(&mut self.settings, settings);
        self.recovery.budget().configure(&self.settings.restart);
        if self.settings.limits != before.limits {
            self.generation.breaches = Default::default();
        }
        if self.settings.limits.growth != before.limits.growth {
            self.growth = Default::default();
        }
        self.listeners.expect(given.ports.clone());
        if self.generation.lost_listener.is_some_and(|lost| !self.listeners.expects(lost.port)) {
            self.forget_lost_listener();
        }
        if self.settings.start_after != before.start_after {
            self.wait_for_others();
        }
        self.configure_probes(given, ctx);
        if self.settings.restart.enabled && !before.restart.enabled && self.incident.is_some() {
            self.reconsider(ctx);
        }
    }

    /// New probes begin without results. A run that began before the reload asked another question.
    fn configure_probes<E: Effects>(&mut self, given: &ServiceSettings, ctx: &mut Ctx<'_, E>) {
        let mut known = std::mem::take(&mut self.probes).into_iter();
        for probe in &given.probes {
            let known = known.next().filter(|_| !probe.is_new);
            self.probes.push(known.unwrap_or_else(|| ProbeState::begun(probe, ctx.now)));
        }
        let is_new = |index: usize| given.probes.get(index).is_none_or(|probe| probe.is_new);
        if let RecoveryState::Examining { streak: FailureStreak { index, .. }, .. } = self.recovery.state()
            && is_new(*index)
        {
            self.verify();
        }
        self.await_settling(ctx.now);
        if given.probes.iter().any(|probe| probe.is_new) {
            ctx.request(Effect::ProbeNow(self.settings.id));
        }
    }
}
