//! What systemd has to say before its unit is touched.
//!
//! systemd may be stopping the unit because somebody asked for it, may have restarted it already, or may be
//! about to. None of that is ours to undo or to do twice, so its word is read before a decision.

use std::time::Duration;

use UnitJudgement::{AlreadyRestarted, NotLoaded, Ours, RestartsItself, Stale, StillRuns, StopRequested};

use super::{Fault, RecoveryState, Remedy, Service};
use crate::{
    clock::Timestamp,
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        rules::Extra,
        unit::{UnitJudgement, failed_by_systemd, judge},
        verdict,
    },
    fact::{Action, Fact, ProcessExit, Sender, UnitState, Verdict},
};

/// systemd has not taken note of the death yet: ask again after this long, this often.
const STALE_WAIT: Duration = Duration::from_millis(3);
const STALE_TRIES: u32 = 300;

/// How much later than it should systemd's own restart may come: its timers have a slack of up to 260 ms.
const RESTART_SLACK: Duration = Duration::from_millis(500);

/// systemd could not be asked: the waits before it is asked again.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// How long a unit on its way up may take before it is looked at again.
const STILL_STARTING: Duration = Duration::from_secs(5);

/// How long the kernel's word may come after systemd's.
const KERNEL_FIRST: Duration = Duration::from_millis(100);

/// A fault whose meaning depends on what systemd is doing.
#[derive(Debug)]
pub(super) struct Inspection {
    fault: Fault,
    exit: Option<ProcessExit>,
    tries: u32,
    /// How often systemd could not be asked.
    unanswered: u32,
    /// The decision is made; it is only looked again before it is carried out.
    retry: bool,
    /// The fault is known only from an earlier state of the unit.
    hearsay: bool,
    /// When to ask again; None while an answer is awaited.
    pub(super) again_at: Option<Timestamp>,
}

impl Service {
    /// Asks systemd about a fault before it is acted on.
    pub(super) fn inspect<E: Effects>(
        &mut self,
        fault: Fault,
        exit: Option<ProcessExit>,
        ctx: &mut Ctx<'_, E>,
    ) {
        self.recovery = RecoveryState::Inspecting(Box::new(Inspection {
            fault,
            exit,
            tries: 0,
            unanswered: 0,
            retry: false,
            hearsay: false,
            again_at: None,
        }));
        ctx.request(Effect::InspectUnit(self.id));
    }

    /// A fault that no death explains: of a unit, only after systemd was asked about it.
    pub(super) fn fail_alive<E: Effects>(&mut self, fault: Fault, ctx: &mut Ctx<'_, E>) {
        if self.is_unit {
            self.inspect(fault, None, ctx);
        } else {
            self.fail(fault, ctx);
        }
    }

    /// Asks again.
    pub(super) fn inspect_again<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if let RecoveryState::Inspecting(inspection) = &mut self.recovery {
            inspection.again_at = None;
            inspection.tries += 1;
            ctx.request(Effect::InspectUnit(self.id));
        }
    }

    /// systemd's word on the unit.
    pub(in crate::engine) fn unit<E: Effects>(&mut self, state: UnitState, ctx: &mut Ctx<'_, E>) {
        self.unit = Some(state.clone());
        if matches!(self.recovery, RecoveryState::Inspecting(_))
            && let RecoveryState::Inspecting(inspection) =
                std::mem::replace(&mut self.recovery, RecoveryState::Idle)
        {
            self.judged(inspection, state, ctx);
        } else {
            self.unit_changed(&state, ctx);
        }
    }

    /// systemd could not be asked: without its word the unit is not touched, and it is asked again.
    pub(in crate::engine) fn unit_unknown<E: Effects>(&mut self, error: &str, ctx: &mut Ctx<'_, E>) {
        let RecoveryState::Inspecting(inspection) = &mut self.recovery else { return };
        inspection.unanswered += 1;
        let wait = FIRST_RETRY.saturating_mul(1 << inspection.unanswered.min(5)).min(LONGEST_RETRY);
        inspection.again_at = Some(ctx.now.plus(wait));
        if inspection.unanswered == 1 {
            let fault = inspection.fault.clone();
            self.open_or_update(fault, ctx);
            self.say_restart(Action::Hold(format!("systemd does not say what the unit does: {error}")), ctx);
            self.alert_now(ctx);
        }
    }

    fn judged<E: Effects>(
        &mut self,
        mut inspection: Box<Inspection>,
        state: UnitState,
        ctx: &mut Ctx<'_, E>,
    ) {
        let judgement = match &inspection.exit {
            Some(exit) => judge(&state, &exit.process.key, exit.at, self.invocation.as_deref()),
            None => self.judge_without_exit(&state, &inspection),
        };
        if judgement == Stale && inspection.tries < STALE_TRIES {
            inspection.again_at = Some(ctx.now.plus(STALE_WAIT));
            self.recovery = RecoveryState::Inspecting(inspection);
            return;
        }
        let judgement = match (&judgement, &inspection.exit) {
            (AlreadyRestarted { .. } | RestartsItself(_) | Ours { .. }, Some(exit)) => {
                asked_to_end(exit, &state).map_or(judgement, StopRequested)
            }
            (_, _) => judgement,
        };
        let event = ctx.publish(Fact::Unit(state.clone(), self.id));
        self.judged_state = state.changed;
        if state.main.is_none() {
            self.main = None;
        }
        let (mut fault, retry) = (inspection.fault, inspection.retry);
        fault.evidence.push(event);
        match judgement {
            StopRequested(why) => {
                self.stopped(fault, why, ctx);
                self.unit_changed(&state, ctx);
            }
            StillRuns => {
                self.recovery =
                    if self.incident.is_some() { RecoveryState::Verifying } else { RecoveryState::Idle };
                self.unit_changed(&state, ctx);
            }
            AlreadyRestarted { asked: true } => {
                self.stopped(fault, "it was restarted on request", ctx);
                self.unit_changed(&state, ctx);
            }
            AlreadyRestarted { asked: false } => {
                self.leave_to_systemd(fault, "systemd has restarted it already", ctx);
                self.recovery = RecoveryState::SystemdRestarting { until: ctx.now.plus(RESTART_SLACK) };
                self.unit_changed(&state, ctx);
            }
            RestartsItself(within) => {
                self.leave_to_systemd(fault, "systemd restarts it itself at once", ctx);
                self.recovery =
                    RecoveryState::SystemdRestarting { until: ctx.now.plus(within).plus(RESTART_SLACK) };
            }
            NotLoaded(load) => {
                let why = format!("systemd cannot start the unit: it is {load}");
                fault.finding.summary.push_str(&format!("; {why}"));
                fault.remedy = Remedy::Hold(why);
                self.fail(fault, ctx);
            }
            Ours { gave_up, .. } => {
                self.needs_reset = gave_up;
                if retry { self.restart(ctx) } else { self.fail(fault, ctx) }
            }
            Stale => self.fail(fault, ctx),
        }
    }

    /// Nothing failed: somebody asked for it.
    fn stopped<E: Effects>(&mut self, mut fault: Fault, why: &str, ctx: &mut Ctx<'_, E>) {
        fault.finding.verdict = Verdict::Stopped;
        fault.finding.summary = format!("{why}; {}", fault.finding.summary);
        self.fail(fault, ctx);
    }

    /// Looks again before a restart that has waited: what was ours to do then may be somebody else's now.
    pub(super) fn retry<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let exited =
            self.incident.as_ref().is_some_and(|open| open.rule().extra == Extra::AwaitsDependencies);
        if exited && self.cause(ctx).is_some() {
            return self.blame_another(ctx);
        }
        if exited && self.awaits_another(ctx) {
            return self.wait_for_another(ctx);
        }
        if self.is_unit {
            self.inspect_same(true, ctx);
        } else {
            self.restart(ctx);
        }
    }

    /// Asks systemd about the open incident.
    fn inspect_same<E: Effects>(&mut self, retry: bool, ctx: &mut Ctx<'_, E>) {
        let Some(open) = &self.incident else {
            self.recovery = RecoveryState::Idle;
            return;
        };
        let finding = verdict::Finding {
            verdict: open.incident.verdict,
            confidence: open.incident.confidence,
            summary: open.incident.summary.clone(),
        };
        self.inspect(Fault::now(ctx.now, finding), None, ctx);
        if let RecoveryState::Inspecting(inspection) = &mut self.recovery {
            inspection.retry = retry;
        }
    }

    /// What systemd's word means for a fault that no death explains: probes that fail, a listener that is gone,
    /// or, as a `retry`, the end of a wait before another restart.
    fn judge_without_exit(&self, state: &UnitState, inspection: &Inspection) -> UnitJudgement {
        let job = state.job.as_ref().map(|job| job.kind.as_str());
        let starting = state.active == "activating" && !state.sub.starts_with("auto-restart");
        if state.load != "loaded" {
            NotLoaded(state.load.clone())
        } else if state.active == "deactivating" || job == Some("stop") {
            StopRequested("systemd is stopping it")
        } else if state.main.is_some() && state.main != self.main {
            AlreadyRestarted { asked: false }
        } else if inspection.hearsay && state.main.is_some() {
            // The state that said so was older than the process that runs.
            StillRuns
        } else if job.is_some() || starting || state.active == "reloading" {
            // It is on its way, by somebody's order.
            if inspection.retry { RestartsItself(STILL_STARTING) } else { StillRuns }
        } else if state.active == "inactive" && state.changed != self.judged_state && !self.was_reset {
            StopRequested("it was stopped meanwhile")
        } else {
            Ours { gave_up: state.active == "failed" && state.restarts_itself, waits: None }
        }
    }

    /// Opens or updates the incident, and leaves the restart to systemd, unless the budget is spent.
    fn leave_to_systemd<E: Effects>(&mut self, fault: Fault, why: &str, ctx: &mut Ctx<'_, E>) {
        self.open_or_update(fault, ctx);
        self.say_restart(Action::Hold(why.to_owned()), ctx);
        if self.budget.left(ctx.now) == 0 {
            let why = format!("systemd has spent its budget of {} restarts", self.budget.describe());
            self.loops(&why, ctx);
        }
    }

    /// systemd's own restart has not led to a running main process in time.
    pub(super) fn their_restart_failed<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        self.inspect_same(false, ctx);
    }

    /// A change nobody asked about: a new main process, or a unit that is down without a death seen.
    fn unit_changed<E: Effects>(&mut self, state: &UnitState, ctx: &mut Ctx<'_, E>) {
        if let Some(main) = state.main {
            if state.active != "deactivating" {
                self.running(main, ctx);
                self.invocation = Some(state.invocation_id.clone());
            }
            return;
        }
        // With a process of its own that is gone, systemd does not know of the end yet.
        let settled = matches!(state.active.as_str(), "active" | "inactive" | "failed");
        if state.job.is_some() || state.main_pid != 0 || !settled {
            return;
        }
        let down = state.active != "active";
        let finding = || verdict::of_unit(state);
        match self.recovery {
            // A unit without a main process can still be up, and its probes say whether it is well.
            RecoveryState::Restarting { confirmed: true, .. } if !down => {
                self.recovery = RecoveryState::Verifying
            }
            RecoveryState::Restarting { confirmed: true, .. } => {
                self.recovery = RecoveryState::Idle;
                self.fail(Fault::now(ctx.now, finding()), ctx);
            }
            // The kernel's word on the death may still come, and says more.
            RecoveryState::Idle | RecoveryState::Verifying if down && self.main.is_some() => {
                self.inspect(Fault::now(ctx.now, finding()), None, ctx);
                if let RecoveryState::Inspecting(inspection) = &mut self.recovery {
                    inspection.hearsay = true;
                    inspection.again_at = Some(ctx.now.plus(KERNEL_FIRST));
                }
            }
            RecoveryState::Idle if state.active == "failed" && self.incident.is_none() => {
                let event = ctx.publish(Fact::Unit(state.clone(), self.id));
                let since = state.active_exit.unwrap_or(ctx.now);
                let evidence = vec![event];
                self.judged_state = state.changed;
                let fault = Fault { since, evidence, ..Fault::now(ctx.now, finding()) };
                self.fail(fault, ctx);
            }
            // Somebody stopped it while it waited for another restart.
            RecoveryState::Backoff { .. } | RecoveryState::CrashLoopBackoff { .. }
                if state.active == "inactive" && state.changed != self.judged_state && !self.was_reset =>
            {
                self.stopped(Fault::now(ctx.now, finding()), "it was stopped meanwhile", ctx);
            }
            RecoveryState::Idle
            | RecoveryState::Inspecting(_)
            | RecoveryState::AwaitingSuccessor { .. }
            | RecoveryState::Backoff { .. }
            | RecoveryState::Restarting { .. }
            | RecoveryState::SystemdRestarting { .. }
            | RecoveryState::Examining { .. }
            | RecoveryState::Snapshotting { .. }
            | RecoveryState::FindingPortHolder { .. }
            | RecoveryState::Verifying
            | RecoveryState::CrashLoopBackoff { .. } => {}
        }
    }

    /// Whether systemd says that the unit is down and nothing failed.
    pub(super) fn unit_is_stopped(&self) -> bool {
        self.main.is_none() && self.unit.as_ref().is_some_and(|unit| unit.active == "inactive")
    }

    /// Whether one more start would be refused by the unit's own StartLimit, which counts ours too.
    ///
    /// The budget of this service decides how often it is restarted; without a reset the unit would be left
    /// `start-limit-hit`, and refuse even an operator's start.
    pub(super) fn start_limit_is_near(&self, now: Timestamp) -> bool {
        let Some(unit) = &self.unit else { return false };
        let (burst, interval) = unit.start_limit;
        let recent = self.starts.iter().filter(|&&start| now.since(start) < interval).count();
        self.needs_reset || recent + 1 >= burst as usize
    }
}

/// Why its main process is taken to have been asked to end, if so: the unit's manager sent it a signal to end by, or
/// somebody who could not be seen did. What systemd ends by itself, it stops, which it says, or counts as a failure.
fn asked_to_end(exit: &ProcessExit, state: &UnitState) -> Option<&'static str> {
    const SIGHUP_SIGINT_SIGTERM: [u8; 3] = [1, 2, 15];
    let polite = |signal: Option<u8>| signal.is_some_and(|it| SIGHUP_SIGINT_SIGTERM.contains(&it));
    if failed_by_systemd(&state.result) {
        return None;
    }
    match &exit.sender {
        Some(Sender::Process { pid, .. }) => {
            (state.manager_pid != 0 && *pid == state.manager_pid && polite(exit.sent_signal))
                .then_some("systemd was told to have it end, as by systemctl kill")
        }
        Some(Sender::Itself | Sender::Kernel) => None,
        None => polite(exit.status.signal())
            .then_some("it was sent a signal that asks a process to end; by whom could not be seen"),
    }
}
