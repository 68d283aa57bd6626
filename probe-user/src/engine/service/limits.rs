//! The service's resource usage and its limits.

use super::model::{Fault, Service};
use crate::{
    engine::{
        ctx::Ctx,
        effect::Effects,
        verdict::{Finding, Remedy},
    },
    fact::{ResourceUsage, Verdict},
};

impl Service {
    pub(super) fn on_usage<E: Effects>(&mut self, usage: ResourceUsage, ctx: &mut Ctx<'_, E>) {
        self.generation.breaches.take_in(usage, &self.settings.limits);
        if self.incident.is_some() || self.main.is_none() {
            return;
        }
        if let Some(summary) = self.generation.breaches.words() {
            let finding =
                Finding { verdict: Verdict::LimitExceeded, confidence: 1.0, summary: summary.into() };
            let fault = Fault { remedy: Remedy::Nothing, degraded: true, ..Fault::now(ctx.now, finding) };
            self.fail(fault, ctx);
        }
    }
}
