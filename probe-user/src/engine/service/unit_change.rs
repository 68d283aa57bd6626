//! Changes of a unit's state that the engine did not ask for.

use std::time::Duration;

use super::model::{Fault, RecoveryState, Service, Timer};
use crate::{
    engine::{
        ctx::Ctx,
        effect::Effects,
        unit::meaning::{self, Known, Meaning, Mend, Phase, Row},
        verdict::{self, Finding, Remedy},
    },
    fact::{EventId, Fact, UnitState, Verdict},
};

/// How much later than systemd the kernel may report an exit.
const KERNEL_FIRST: Duration = Duration::from_millis(100);

impl Service {
    /// A state change without an inspection: a new main process, or a unit that ended without a known exit.
    pub(super) fn unit_changed<E: Effects>(
        &mut self,
        state: &UnitState,
        before: Option<&UnitState>,
        ctx: &mut Ctx<'_, E>,
    ) {
        self.timers.set(Timer::StartOverdue, self.unit.start_bound().map(|bound| ctx.now.plus(bound)));
        if let Some(main) = state.main {
            if state.active != "deactivating" {
                self.on_running(main, ctx);
                self.unit.set_invocation(&state.invocation_id);
            } else if Self::begins_to_stop(state) && (self.is_idle() || self.is_verifying()) {
                self.on_unit_stop(state, &format!("{} is stopping it", state.manager()), ctx);
            }
            return;
        }
        // If its main process is gone, systemd has not noticed the exit yet.
        let settled = matches!(state.active.as_str(), "active" | "inactive" | "failed");
        if state.job.is_some() || state.main_pid != 0 || !settled {
            return;
        }
        let down = state.active != "active";
        match self.recovery.state() {
            // A unit without a main process can still be up. Its probes tell whether it is healthy.
            RecoveryState::Restarting { confirmed: true, .. } if !down => {
                self.enter(RecoveryState::Verifying, None);
            }
            RecoveryState::Restarting { confirmed: true, .. } => {
                self.enter(RecoveryState::Idle, None);
                self.on_down(state, ctx);
            }
            // The kernel may still report the exit, with more detail.
            RecoveryState::Idle | RecoveryState::Verifying if down && self.main.is_some() => {
                self.inspect(Fault::now(ctx.now, verdict::of_unit(state)), None, ctx);
                if let Some(inspection) = self.recovery.inspection() {
                    inspection.from_earlier_state = true;
                }
                self.timers.set(Timer::Recovery, Some(ctx.now.plus(KERNEL_FIRST)));
            }
            RecoveryState::Idle | RecoveryState::Verifying if !down => self.on_up_without_main(state, ctx),
            // The operator stopped it while it was down or waited for another restart.
            RecoveryState::Idle
            | RecoveryState::Backoff
            | RecoveryState::AwaitingHostBudget
            | RecoveryState::AwaitingHost(_)
            | RecoveryState::CrashLoopBackoff
                if self.incident.is_some() && self.unit.was_stopped_since(state) =>
            {
                if self.taken_down_by(state, ctx).is_some_and(|needed| needed.failed()) {
                    // The stop with that unit is over.
                    self.publish_unit(state, ctx);
                } else {
                    self.on_outside_stop("it was stopped meanwhile", false, ctx);
                }
            }
            RecoveryState::Idle | RecoveryState::Verifying if self.ended_unnoticed(state, before) => {
                self.on_down(state, ctx);
            }
            RecoveryState::Idle
            | RecoveryState::WaitingToStart(_)
            | RecoveryState::Inspecting(_)
            | RecoveryState::AwaitingSuccessor(_)
            | RecoveryState::FindingSuccessor(_)
            | RecoveryState::Backoff
            | RecoveryState::AwaitingHostBudget
            | RecoveryState::AwaitingHost(_)
            | RecoveryState::Restarting { .. }
            | RecoveryState::SystemdRestarting
            | RecoveryState::Examining { .. }
            | RecoveryState::Snapshotting
            | RecoveryState::FindingPortHolder(_)
            | RecoveryState::Verifying
            | RecoveryState::CrashLoopBackoff => {}
        }
    }

    /// Whether a unit without a known main process has ended since its last state, or had failed before the first one.
    fn ended_unnoticed(&self, state: &UnitState, before: Option<&UnitState>) -> bool {
        let refused = state.ended_job.as_ref().is_some_and(|job| job.result == "dependency");
        let ran = before.is_some_and(|before| {
            matches!(meaning::phase(before), Phase::Up | Phase::Starting | Phase::Stopping | Phase::Finished)
        });
        let unusable = before.is_none() && meaning::phase(state) == Phase::NotLoaded;
        if self.incident.is_some() {
            // A start that failed again.
            return ran && self.is_verifying();
        }
        match &self.stopped {
            None => ran || unusable || refused || state.active == "failed",
            // It was started again meanwhile, and ended before its process was known.
            Some(stopped) => {
                refused || !state.invocation_id.is_empty() && state.invocation_id != stopped.invocation
            }
        }
    }

    pub(super) fn on_down<E: Effects>(&mut self, state: &UnitState, ctx: &mut Ctx<'_, E>) {
        let event = self.publish_unit(state, ctx);
        let needed = self.taken_down_by(state, ctx);
        let since = state.active_exit.filter(|_| state.was_ready()).unwrap_or(ctx.now);
        let fault = Fault { since, ..Fault::now(ctx.now, verdict::of_unit(state)) };
        if let Some(needed) = needed.filter(|needed| needed.failed()) {
            return self.fail_with_needed(fault, needed, event, ctx);
        }
        let row = meaning::of(state, Known { taken_down: false, main_ran: self.unit.main_ran(state) });
        match row.meaning {
            Meaning::Fault(..) => {
                let mut fault = self.by_unit(fault, row, state);
                fault.evidence.push(event);
                self.fail(fault, ctx);
            }
            Meaning::Stopped if meaning::was_asked(state) => {
                self.on_unit_stop(state, row.because, ctx);
            }
            Meaning::Done | Meaning::Stopped | Meaning::Runs | Meaning::Starting | Meaning::Waits => {
                self.on_rest(row, state, ctx);
            }
        }
    }

    /// Its stop was requested, or that of the needed unit that was stopped with it.
    fn on_unit_stop<E: Effects>(&mut self, state: &UnitState, why: &str, ctx: &mut Ctx<'_, E>) {
        match self.taken_down_by(state, ctx) {
            Some(needed) => self.on_stop_request(&needed.words(), false, ctx),
            None => self.on_outside_stop(why, false, ctx),
        }
    }

    /// The unit is up, without a main process.
    fn on_up_without_main<E: Effects>(&mut self, state: &UnitState, ctx: &mut Ctx<'_, E>) {
        if self.main.is_none() && meaning::phase(state) == Phase::Finished && self.incident.is_some() {
            self.on_rest(meaning::of(state, Known::default()), state, ctx);
        }
    }

    /// It ended as it should, or is not to run now.
    pub(super) fn on_rest<E: Effects>(&mut self, row: &Row, state: &UnitState, ctx: &mut Ctx<'_, E>) {
        self.enter(RecoveryState::Idle, None);
        if self.incident.is_none() {
            return;
        }
        if row.meaning == Meaning::Done {
            if self.probes.iter().all(|probe| probe.is_ok()) {
                self.resolve(ctx);
            }
        } else {
            self.recovery.set_restart_useless(true);
            self.hold(&meaning::words(row, state), ctx);
        }
    }

    /// A fault in systemd's view: its own verdict, and whether a restart may mend it.
    pub(super) fn by_unit(&self, mut fault: Fault, row: &Row, state: &UnitState) -> Fault {
        let Meaning::Fault(verdict, mend) = row.meaning else { return fault };
        // Another verdict than that of a death rests on more than the unit's state.
        let is_death = matches!(
            fault.finding.verdict,
            Verdict::Exited | Verdict::Killed | Verdict::Crashed | Verdict::OomKilled
        );
        if !is_death && verdict != Some(fault.finding.verdict) {
            return fault;
        }
        if let Some(verdict) = verdict.filter(|verdict| *verdict != fault.finding.verdict) {
            let mut summary = verdict::Finding::new(verdict, 1.0, meaning::words(row, state)).summary;
            summary.add(fault.finding.summary.to_string());
            fault.finding = Finding { verdict, confidence: 1.0, summary };
            fault.early_exit = false;
        }
        if mend == Mend::Hold {
            fault.remedy = Remedy::Hold(meaning::words(row, state));
            fault.early_exit = false;
        }
        if state.active == "failed" && !state.on_failure.is_empty() {
            fault.finding.summary.add(format!("systemd starts {} (OnFailure=)", state.on_failure.join(", ")));
        }
        fault
    }

    /// Publishes a unit's state, unless the last judged one was the same.
    pub(super) fn publish_unit<E: Effects>(&mut self, state: &UnitState, ctx: &mut Ctx<'_, E>) -> EventId {
        let known = self.unit.judged_as(state);
        let event = known.unwrap_or_else(|| ctx.publish(Fact::Unit(state.clone(), self.settings.id)));
        self.unit.judge(state, event);
        event
    }

    /// systemd has been starting the unit for longer than it should.
    pub(super) fn on_start_overdue<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let Some((state, _)) = self.unit.meaning().filter(|(_, row)| row.phase == Phase::Starting) else {
            return;
        };
        let lasted = state.started.map(|started| ctx.now.since(started).as_secs()).unwrap_or_default();
        let why = format!("{} has been starting it for {lasted} s ({})", state.manager(), state.sub);
        if self.incident.is_some() || !self.is_idle() {
            return;
        }
        let fault = Fault::now(ctx.now, Finding::new(Verdict::StartFailed, 0.9, why.clone()));
        self.fail(Fault { remedy: Remedy::Hold(why), ..fault }, ctx);
    }
}
