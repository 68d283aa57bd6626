//! The check of a unit's state before a restart.
//!
//! systemd may be stopping the unit on request, may have restarted it already, or may be about to. hostprobe must
//! not undo or repeat that, so the engine reads the unit's state before a decision.

use std::{borrow::Cow, time::Duration};

use UnitJudgement::{
    AlreadyRestarted, NotLoaded, Restart, RestartsItself, Rests, Stale, StillRuns, StopRequested,
};

use super::model::{Fault, Inspection, RecoveryState, Service, Timer};
use crate::{
    engine::{
        budget::describe,
        ctx::Ctx,
        effect::{Effect, Effects},
        rules::Extra,
        unit::{
            UnitJudgement, judge,
            meaning::{self, Known, Meaning, Phase, Row},
        },
        verdict::{self, Finding, Remedy},
    },
    fact::{Action, ProcessExit, Sender, UnitState, Verdict},
};

/// systemd has not noticed the death yet: the wait between two reads, and the number of reads.
const STALE_WAIT: Duration = Duration::from_millis(3);
const STALE_TRIES: u32 = 300;

/// How late systemd's own restart may be: its timers have a slack of up to 260 ms.
const RESTART_SLACK: Duration = Duration::from_millis(500);

/// The waits before the next read after a failed one.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Between two checks of a unit that is starting.
const STILL_STARTING: Duration = Duration::from_secs(5);

impl Service {
    /// Reads the unit's state before an action on a fault.
    pub(super) fn inspect<E: Effects>(
        &mut self,
        fault: Fault,
        exit: Option<ProcessExit>,
        ctx: &mut Ctx<'_, E>,
    ) {
        let inspection =
            Inspection { fault, exit, tries: 0, unanswered: 0, retry: false, from_earlier_state: false };
        self.enter(RecoveryState::Inspecting(Box::new(inspection)), None);
        ctx.request(Effect::InspectUnit(self.settings.id));
    }

    /// A fault without a death. For a unit, the engine reads the unit's state first.
    pub(super) fn fail_alive<E: Effects>(&mut self, fault: Fault, ctx: &mut Ctx<'_, E>) {
        if self.settings.is_unit && !self.is_kept_stopped() {
            self.inspect(fault, None, ctx);
        } else {
            self.fail(fault, ctx);
        }
    }

    pub(super) fn inspect_again<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if let Some(inspection) = self.recovery.inspection() {
            inspection.tries += 1;
            ctx.request(Effect::InspectUnit(self.settings.id));
        }
    }

    pub(super) fn on_unit<E: Effects>(&mut self, state: UnitState, ctx: &mut Ctx<'_, E>) {
        if self.stays_stopped(&state, ctx) {
            self.unit.update(state);
            return;
        }
        let before = self.unit.update(state.clone());
        let waits = match self.recovery.state() {
            RecoveryState::Idle
            | RecoveryState::Backoff
            | RecoveryState::AwaitingHostBudget
            | RecoveryState::AwaitingHost(_)
            | RecoveryState::CrashLoopBackoff => true,
            RecoveryState::Inspecting(inspection) => inspection.retry,
            RecoveryState::WaitingToStart(_)
            | RecoveryState::AwaitingSuccessor(_)
            | RecoveryState::FindingSuccessor(_)
            | RecoveryState::Restarting { .. }
            | RecoveryState::SystemdRestarting
            | RecoveryState::Examining { .. }
            | RecoveryState::Snapshotting
            | RecoveryState::FindingPortHolder(_)
            | RecoveryState::Verifying => false,
        };
        if self.unit.take_idle_job(&state) && waits && self.incident.is_some() {
            return self.on_outside_stop("it was stopped while it was down", false, ctx);
        }
        if matches!(self.recovery.state(), RecoveryState::Inspecting(_))
            && let RecoveryState::Inspecting(inspection) = self.enter(RecoveryState::Idle, None)
        {
            self.on_judged(inspection, state, before.as_ref(), ctx);
        } else {
            self.unit_changed(&state, before.as_ref(), ctx);
            self.on_container(&state, ctx);
        }
    }

    /// The unit's state is unknown. The engine leaves the unit alone and reads it again.
    pub(super) fn on_unit_unknown<E: Effects>(&mut self, error: &str, ctx: &mut Ctx<'_, E>) {
        let Some(inspection) = self.recovery.inspection() else { return };
        inspection.unanswered += 1;
        let wait = FIRST_RETRY.saturating_mul(1 << inspection.unanswered.min(5)).min(LONGEST_RETRY);
        let first = (inspection.unanswered == 1).then(|| inspection.fault.clone());
        self.timers.set(Timer::Recovery, Some(ctx.now.plus(wait)));
        if let Some(fault) = first {
            self.open_or_update(fault, ctx);
            self.publish_restart(
                Action::Hold(format!("{} does not report its state: {error}", self.manager())),
                ctx,
            );
            self.alert_now(ctx);
        }
    }

    fn on_judged<E: Effects>(
        &mut self,
        inspection: Box<Inspection>,
        state: UnitState,
        before: Option<&UnitState>,
        ctx: &mut Ctx<'_, E>,
    ) {
        let judgement = match &inspection.exit {
            Some(exit) => judge(&state, &exit.process.key, exit.at, self.unit.invocation()),
            None => self.judge_without_exit(&state, &inspection),
        };
        if judgement == Stale && inspection.tries < STALE_TRIES {
            self.enter(RecoveryState::Inspecting(inspection), Some(ctx.now.plus(STALE_WAIT)));
            return;
        }
        let known =
            Known { taken_down: false, main_ran: inspection.exit.is_some() || self.unit.main_ran(&state) };
        // The state may be that of the next run already. Before it, the unit was not ready, so systemd's signal was no
        // operator's.
        let failed_to_start = matches!(judgement, AlreadyRestarted { asked: false })
            && before.is_some_and(|before| meaning::phase(before) == Phase::Starting);
        let ended_by_systemd = match (&judgement, &inspection.exit) {
            (AlreadyRestarted { asked: false }, Some(exit)) if !failed_to_start => {
                self.ended_by_systemd(exit, &state, before)
            }
            (_, _) => None,
        };
        let judgement = match (&judgement, &inspection.exit) {
            (AlreadyRestarted { asked: false } | RestartsItself(_) | Restart { .. }, Some(exit))
                if !failed_to_start && ended_by_systemd.is_none() =>
            {
                self.asked_to_end(exit, &state, ctx).map_or(judgement, StopRequested)
            }
            // It was removed, which ends it as well.
            (NotLoaded(_), Some(exit)) if state.container.is_some() => {
                self.asked_to_end(exit, &state, ctx).map_or(judgement, StopRequested)
            }
            (_, _) => judgement,
        };
        let manager = state.manager();
        let event = self.publish_unit(&state, ctx);
        if state.main.is_none() {
            self.main = None;
        }
        let (mut fault, retry) = (inspection.fault, inspection.retry);
        if inspection.from_earlier_state {
            // Another run may have ended meanwhile, for another reason.
            fault.finding = verdict::of_unit(&state);
        }
        match judgement {
            StopRequested(why) => match self.taken_down_by(&state, ctx) {
                Some(needed) if needed.failed() => self.fail_with_needed(fault, needed, event, ctx),
                needed => {
                    let restarts = state.job.as_ref().is_some_and(|job| job.kind != "stop");
                    match needed {
                        Some(needed) => self.on_stop_request(&needed.words(), restarts, ctx),
                        None => self.on_outside_stop(&why, restarts, ctx),
                    }
                    self.unit_changed(&state, before, ctx);
                }
            },
            Rests(row) => self.on_rest(row, &state, ctx),
            StillRuns => {
                self.verify();
                self.unit_changed(&state, before, ctx);
            }
            AlreadyRestarted { asked: true } => {
                self.on_outside_stop(&self.restart_request(&state), true, ctx);
                self.unit_changed(&state, before, ctx);
            }
            AlreadyRestarted { asked: false } => {
                if let (true, Some(before), Some(exit)) = (failed_to_start, before, &inspection.exit)
                    && is_polite_signal_of_manager(exit, &state)
                {
                    let ended = UnitState {
                        result: "timeout".into(),
                        ready: None,
                        active_exit: None,
                        ..before.clone()
                    };
                    fault = self.by_unit(fault, meaning::of_end(&ended, known), &ended);
                }
                if let Some(ended) = ended_by_systemd {
                    fault = self.by_unit(fault, meaning::of_end(&ended, known), &ended);
                }
                fault.evidence.push(event);
                self.leave_to_systemd(fault, &format!("{manager} has restarted it already"), ctx);
                self.enter(RecoveryState::SystemdRestarting, Some(ctx.now.plus(RESTART_SLACK)));
                self.unit_changed(&state, before, ctx);
            }
            RestartsItself(within) => {
                let mut fault = self.by_unit(fault, meaning::of_end(&state, known), &state);
                fault.evidence.push(event);
                let when = if within < RESTART_SLACK { " at once" } else { "" };
                self.leave_to_systemd(fault, &format!("{manager} restarts it itself{when}"), ctx);
                let until = ctx.now.plus(within).plus(RESTART_SLACK);
                self.enter(RecoveryState::SystemdRestarting, Some(until));
            }
            NotLoaded(load) => {
                fault.evidence.push(event);
                let why = meaning::cannot_start(&state, &load);
                fault.finding.summary.add(why.clone());
                fault.remedy = Remedy::Hold(why);
                self.fail(fault, ctx);
            }
            Restart { gave_up, waits } => {
                self.unit.set_needs_reset(gave_up);
                let awaits = self.has_verdict(Verdict::DependencyDown);
                let refused = fault.finding.verdict == Verdict::Exited && inspection.exit.is_none();
                if let Some(needed) = self.waits_for(&state, ctx).filter(|_| awaits || refused) {
                    return self.fail_with_needed(fault, needed, event, ctx);
                }
                if retry && awaits {
                    let summary = "the unit that it needs runs again, and it does not";
                    let finding = Finding::new(Verdict::Unhealed, 0.9, summary);
                    return self.fail(Fault::now(ctx.now, finding), ctx);
                }
                if retry && fault.remedy == Remedy::Restart {
                    return self.restart_after_wait(ctx);
                }
                let mut fault = self.by_unit(fault, meaning::of_end(&state, known), &state);
                fault.evidence.push(event);
                match (waits, &fault.remedy) {
                    // A restart does not mend it, and systemd makes one all the same.
                    (Some(left), Remedy::Hold(_)) => {
                        let why = format!("{manager} restarts it itself in {}", describe(left));
                        self.leave_to_systemd(fault, &why, ctx);
                        let until = ctx.now.plus(left).plus(RESTART_SLACK);
                        self.enter(RecoveryState::SystemdRestarting, Some(until));
                    }
                    (_, Remedy::Hold(why)) if self.is_in_spent_loop(ctx) => self.hold(why, ctx),
                    (_, _) => {
                        let is_held = fault.finding.verdict == Verdict::StartFailed;
                        self.fail(fault, ctx);
                        if is_held {
                            self.loop_if_spent(ctx);
                        }
                    }
                }
            }
            Stale => {
                fault.evidence.push(event);
                self.fail(fault, ctx);
            }
        }
    }

    /// The unit's last state in the run that died, if systemd ended that run by itself. `state` is that of the next run,
    /// whose result is a success again.
    fn ended_by_systemd(
        &self,
        exit: &ProcessExit,
        state: &UnitState,
        before: Option<&UnitState>,
    ) -> Option<UnitState> {
        let of_that_run = before.filter(|it| self.unit.invocation() == Some(&it.invocation_id));
        if let Some(before) = of_that_run.filter(|before| meaning::failed_by_systemd(before)) {
            return Some(before.clone());
        }
        let by_watchdog = state.watchdog.is_some()
            && is_signal_of_manager(exit, state)
            && exit.sent_signal == Some(state.watchdog_signal);
        let ended = || UnitState { result: "watchdog".into(), job: None, ..before.unwrap_or(state).clone() };
        by_watchdog.then(ended)
    }

    /// Checks the unit again before a delayed restart, because systemd or an operator may have acted meanwhile.
    pub(super) fn retry<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if self.is_paused() {
            return self.hold_for_pause(ctx);
        }
        if self.waits_for_host(ctx) {
            return;
        }
        let exited =
            self.incident.as_ref().is_some_and(|open| open.rule().extra == Extra::AwaitsDependencies);
        if exited && self.cause(ctx).is_some() {
            return self.blame_dependency(ctx);
        }
        if exited && self.awaits_dependency(ctx) {
            return self.wait_for_dependency(ctx);
        }
        if self.settings.is_unit {
            self.inspect_same(true, ctx);
        } else {
            self.restart_after_wait(ctx);
        }
    }

    /// Reads the unit's state for the open incident.
    fn inspect_same<E: Effects>(&mut self, retry: bool, ctx: &mut Ctx<'_, E>) {
        let Some(open) = &self.incident else {
            self.enter(RecoveryState::Idle, None);
            return;
        };
        let mut fault = Fault::now(ctx.now, open.finding());
        if fault.finding.verdict == Verdict::StartFailed {
            // Whatever the unit's state is by now: no restart mends what failed.
            fault.remedy = Remedy::Hold(fault.finding.summary.to_string());
        }
        self.inspect(fault, None, ctx);
        if let Some(inspection) = self.recovery.inspection() {
            inspection.retry = retry;
        }
    }

    /// What the unit's state means for a fault without a death: failed probes, a closed listener, or, as a `retry`,
    /// the end of a wait before another restart.
    fn judge_without_exit(&self, state: &UnitState, inspection: &Inspection) -> UnitJudgement {
        let job = state.job.as_ref().map(|job| job.kind.as_str());
        let starting = state.active == "activating" && !state.sub.starts_with("auto-restart");
        if job == Some("stop") || state.active == "deactivating" && meaning::was_asked(state) {
            StopRequested(format!("{} is stopping it", state.manager()).into())
        } else if state.active == "deactivating" {
            // Its end is under way, and its exit or its next state tells more.
            StillRuns
        } else if meaning::phase(state) == Phase::NotLoaded || meaning::phase(state) == Phase::Masked {
            NotLoaded(state.load.clone())
        } else if state.main.is_some() && state.main != self.main {
            AlreadyRestarted { asked: false }
        } else if state.container.is_some() && state.waits_to_restart() {
            RestartsItself(state.restart_delay)
        } else if inspection.from_earlier_state
            && (state.main.is_some() || meaning::phase(state) == Phase::Up)
        {
            // The state was older than the present run.
            StillRuns
        } else if job.is_some() || starting || state.active == "reloading" {
            // It is starting on request.
            if inspection.retry { RestartsItself(STILL_STARTING) } else { StillRuns }
        } else if self.unit.was_stopped_since(state) {
            StopRequested("it was stopped meanwhile".into())
        } else if let Some(row) = self.rests(state) {
            Rests(row)
        } else if inspection.from_earlier_state && meaning::phase(state) == Phase::Finished {
            // The failure was that of an earlier run. Its probes judge this one.
            StillRuns
        } else {
            Restart { gave_up: state.active == "failed" && state.restarts_itself, waits: None }
        }
    }

    /// The row of a unit without an exit that is down, or has finished, as it should be.
    fn rests(&self, state: &UnitState) -> Option<&'static Row> {
        let row = meaning::of(state, Known::default());
        // Its probes failed, though its work is done.
        let fails = row.phase == Phase::Finished && !self.probes.is_empty();
        let is_judged = meaning::was_asked(state);
        (matches!(row.meaning, Meaning::Done | Meaning::Stopped) && !fails && !is_judged).then_some(row)
    }

    /// Opens or updates the incident and leaves the restart to systemd, unless the budget is spent.
    fn leave_to_systemd<E: Effects>(&mut self, fault: Fault, why: &str, ctx: &mut Ctx<'_, E>) {
        let loops = self.is_in_spent_loop(ctx);
        if !loops {
            self.open_or_update(fault, ctx);
        }
        self.publish_restart(Action::Hold(why.to_owned()), ctx);
        if !loops {
            self.loop_if_spent(ctx);
        }
    }

    /// Whether it is in a crash loop whose budget is spent. systemd's next try and its failure change nothing then.
    fn is_in_spent_loop<E: Effects>(&mut self, ctx: &Ctx<'_, E>) -> bool {
        self.has_verdict(Verdict::CrashLoop) && self.recovery.budget().left(ctx.now) == 0
    }

    /// systemd's restarts count too.
    fn loop_if_spent<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if self.recovery.budget().left(ctx.now) == 0 {
            let why = format!(
                "{} has spent its budget of {} restarts",
                self.manager(),
                self.recovery.budget().describe()
            );
            self.become_crash_loop(&why, ctx);
        }
    }

    /// systemd's own restart has not led to a running main process in time.
    pub(super) fn on_systemd_restart_overdue<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        self.inspect_same(false, ctx);
    }
}

impl Service {
    /// Why the main process counts as asked to end.
    fn asked_to_end<E>(
        &self,
        exit: &ProcessExit,
        state: &UnitState,
        ctx: &Ctx<'_, E>,
    ) -> Option<Cow<'static, str>> {
        match state.container {
            Some(_) => self.container_was_asked(exit, state, ctx),
            None => asked_to_end(exit, state).map(Cow::Borrowed),
        }
    }

    /// The name of what manages it.
    fn manager(&self) -> &'static str {
        match self.unit.meaning() {
            Some((state, _)) => state.manager(),
            None if self.settings.is_container => "its container engine",
            None => "systemd",
        }
    }
}

/// Why the main process counts as asked to end: the unit's manager, or an unknown sender, sent it a signal to end
/// by. A stop by systemd itself is visible as a stop job or a failure.
fn asked_to_end(exit: &ProcessExit, state: &UnitState) -> Option<&'static str> {
    if meaning::failed_by_systemd(state) {
        return None;
    }
    match &exit.sender {
        Some(Sender::Process { .. }) => is_polite_signal_of_manager(exit, state)
            .then_some("systemd was asked to signal it, as by systemctl kill"),
        Some(Sender::Itself | Sender::Kernel) => None,
        None => polite(exit.status.signal())
            .then_some("an unknown sender sent it a signal that asks a process to end"),
    }
}

/// Whether the unit's manager sent a signal that asks a process to end.
fn is_polite_signal_of_manager(exit: &ProcessExit, state: &UnitState) -> bool {
    is_signal_of_manager(exit, state) && polite(exit.sent_signal)
}

fn is_signal_of_manager(exit: &ProcessExit, state: &UnitState) -> bool {
    matches!(&exit.sender, Some(Sender::Process { pid, .. }) if state.manager_pid != 0 && *pid == state.manager_pid)
}

/// SIGHUP, SIGINT or SIGTERM.
fn polite(signal: Option<u8>) -> bool {
    signal.is_some_and(|it| matches!(it, 1 | 2 | 15))
}
