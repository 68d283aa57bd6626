//! The units that a unit needs: systemd stops it with them, and it cannot run before them.

use std::time::Duration;

use super::model::{Fault, RecoveryState, Service};
use crate::{
    engine::{
        ctx::Ctx,
        effect::Effects,
        unit::meaning::{self, Course},
        verdict::{Finding, Remedy},
    },
    fact::{EventId, NeededUnit, ServiceId, UnitState, Verdict},
};

/// The most that lies between the ends of two units of which one took the other down.
const TOGETHER: Duration = Duration::from_secs(2);

/// Between two checks whether a needed unit runs again that hostprobe does not watch.
const RECHECK_INTERVAL: Duration = Duration::from_secs(10);

/// A needed unit that explains why a unit does not run.
#[derive(Clone, Debug)]
pub struct Needed {
    unit: NeededUnit,
    /// The service of that unit, if hostprobe watches it.
    service: Option<ServiceId>,
    failed: bool,
}

impl Needed {
    pub fn failed(&self) -> bool {
        self.failed
    }

    pub fn words(&self) -> String {
        let NeededUnit { id, relation, active, .. } = &self.unit;
        let end = if self.failed { "which failed" } else { "which was stopped or restarted" };
        format!("systemd stopped it with {id} ({relation}=), {end} and is {active}")
    }
}

impl Service {
    /// The needed unit that systemd stopped this one with, if any.
    pub(super) fn taken_down_by<E>(&self, state: &UnitState, ctx: &Ctx<'_, E>) -> Option<Needed> {
        let left = state.active_exit.unwrap_or(ctx.now);
        let together = |needed: &&NeededUnit| {
            needed.left.is_some_and(|its| left.since(its) <= TOGETHER && its.since(left) <= TOGETHER)
        };
        let stopped = meaning::was_asked(state).then(|| state.needs.iter().find(together)).flatten();
        // A start that systemd gave up because a needed unit did not start.
        let refused = state.ended_job.as_ref().is_some_and(|job| job.result == "dependency");
        let blocking = || state.needs.iter().find(|needed| refused && is_missing(needed));
        let unit = stopped.or_else(blocking)?.clone();
        let watched = ctx.surroundings.needed.iter().find(|needed| needed.unit == unit.id);
        let failed = match watched {
            // One that is blamed may be well again.
            Some(watched) => watched.failed || unit.active == "failed" || self.blames(watched.service),
            None => unit.active == "failed" || unit.restarts > 0,
        };
        Some(Needed { unit, service: watched.map(|watched| watched.service), failed })
    }

    /// Whether the open incident has another unit's failure for its cause: that of this service, or, of a unit that is not
    /// watched, its own.
    fn blames(&self, cause: ServiceId) -> bool {
        self.has_verdict(Verdict::DependencyDown)
            && self.incident.as_ref().is_some_and(|open| open.cause() == cause)
    }

    /// A needed unit without which systemd does not start this one.
    pub(super) fn waits_for<E>(&self, state: &UnitState, ctx: &Ctx<'_, E>) -> Option<Needed> {
        let unit = state.needs.iter().find(|needed| is_missing(needed))?.clone();
        let service = ctx.surroundings.needed.iter().find(|it| it.unit == unit.id).map(|it| it.service);
        Some(Needed { unit, service, failed: true })
    }

    /// A needed unit failed. The service is not restarted before that one runs.
    pub(super) fn fail_with_needed<E: Effects>(
        &mut self,
        fault: Fault,
        needed: Needed,
        event: EventId,
        ctx: &mut Ctx<'_, E>,
    ) {
        let row = meaning::ROWS.iter().find(|row| row.course == Course::TakenDown);
        let because = row.map_or("", |row| row.because);
        let summary = fault.finding.summary.caused_by(needed.words(), because.to_owned());
        let mut fault = Fault {
            finding: Finding { verdict: Verdict::DependencyDown, confidence: 0.9, summary },
            remedy: Remedy::Hold(format!("{} is {}", needed.unit.id, needed.unit.active)),
            cause: needed.service,
            cause_alerts: needed.service.is_some(),
            early_exit: false,
            ..fault
        };
        fault.evidence.push(event);
        self.enter(RecoveryState::Idle, None);
        if !self.blames(needed.service.unwrap_or(self.settings.id)) {
            self.fail(fault, ctx);
        }
        if needed.service.is_none() && self.settings.restart.enabled {
            // Its end is not observed, so the engine asks.
            self.enter(RecoveryState::Backoff, Some(ctx.now.plus(RECHECK_INTERVAL)));
        }
    }
}

/// Whether a unit cannot start because of this needed one. A oneshot unit that has done its work is inactive too.
fn is_missing(needed: &NeededUnit) -> bool {
    needed.relation != "PartOf"
        && match needed.active.as_str() {
            "failed" | "activating" | "deactivating" => true,
            "inactive" => needed.relation == "BindsTo",
            _ => false,
        }
}
