//! What systemd has to say before its unit is touched.
//!
//! systemd may be stopping the unit because somebody asked for it, may have restarted it already, or may be
//! about to. None of that is ours to undo or to do twice, so its word is read before a decision.

use std::time::Duration;

use UnitJudgement::{AlreadyRestarted, NotLoaded, Ours, RestartsItself, Stale, StillRuns, StopRequested};

use super::{Fault, Remedy, Service, Step};
use crate::{
    clock::Timestamp,
    engine::{
        Effect, Outbox, Turn,
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
    pub(super) fn inspect<O: Outbox>(
        &mut self,
        fault: Fault,
        exit: Option<ProcessExit>,
        turn: &mut Turn<'_, O>,
    ) {
        self.step = Step::Inspect(Box::new(Inspection {
            fault,
            exit,
            tries: 0,
            unanswered: 0,
            retry: false,
            hearsay: false,
            again_at: None,
        }));
        turn.act(Effect::InspectUnit(self.id));
    }

    /// A fault that no death explains: of a unit, only after systemd was asked about it.
    pub(super) fn fail_alive<O: Outbox>(&mut self, fault: Fault, turn: &mut Turn<'_, O>) {
        if self.is_unit {
            self.inspect(fault, None, turn);
        } else {
            self.fail(fault, turn);
        }
    }

    /// Asks again.
    pub(super) fn inspect_again<O: Outbox>(&mut self, turn: &mut Turn<'_, O>) {
        if let Step::Inspect(inspection) = &mut self.step {
            inspection.again_at = None;
            inspection.tries += 1;
            turn.act(Effect::InspectUnit(self.id));
        }
    }

    /// systemd's word on the unit.
    pub(in crate::engine) fn unit<O: Outbox>(&mut self, state: UnitState, turn: &mut Turn<'_, O>) {
        self.unit = Some(state.clone());
        if matches!(self.step, Step::Inspect(_))
            && let Step::Inspect(inspection) = std::mem::replace(&mut self.step, Step::Idle)
        {
            self.judged(inspection, state, turn);
        } else {
            self.unit_changed(&state, turn);
        }
    }

    /// systemd could not be asked: without its word the unit is not touched, and it is asked again.
    pub(in crate::engine) fn unit_unknown<O: Outbox>(&mut self, error: &str, turn: &mut Turn<'_, O>) {
        let Step::Inspect(inspection) = &mut self.step else { return };
        inspection.unanswered += 1;
        let wait = FIRST_RETRY.saturating_mul(1 << inspection.unanswered.min(5)).min(LONGEST_RETRY);
        inspection.again_at = Some(turn.now.plus(wait));
        if inspection.unanswered == 1 {
            let fault = inspection.fault.clone();
            self.open_or_update(fault, turn);
            self.say_restart(Action::Hold(format!("systemd does not say what the unit does: {error}")), turn);
            self.alert_now(turn);
        }
    }

    fn judged<O: Outbox>(
        &mut self,
        mut inspection: Box<Inspection>,
        state: UnitState,
        turn: &mut Turn<'_, O>,
    ) {
        let judgement = match &inspection.exit {
            Some(exit) => judge(&state, &exit.process.key, exit.at, self.invocation.as_deref()),
            None => self.judge_without_exit(&state, &inspection),
        };
        if judgement == Stale && inspection.tries < STALE_TRIES {
            inspection.again_at = Some(turn.now.plus(STALE_WAIT));
            self.step = Step::Inspect(inspection);
            return;
        }
        let judgement = match (&judgement, &inspection.exit) {
            (AlreadyRestarted { .. } | RestartsItself(_) | Ours { .. }, Some(exit)) => {
                asked_to_end(exit, &state).map_or(judgement, StopRequested)
            }
            (_, _) => judgement,
        };
        let event = turn.emit(Fact::Unit(state.clone(), self.id));
        self.judged_state = state.changed;
        if state.main.is_none() {
            self.main = None;
        }
        let (mut fault, retry) = (inspection.fault, inspection.retry);
        fault.evidence.push(event);
        match judgement {
            StopRequested(why) => {
                self.stopped(fault, why, turn);
                self.unit_changed(&state, turn);
            }
            StillRuns => {
                self.step = if self.incident.is_some() { Step::Verify } else { Step::Idle };
                self.unit_changed(&state, turn);
            }
            AlreadyRestarted { asked: true } => {
                self.stopped(fault, "it was restarted on request", turn);
                self.unit_changed(&state, turn);
            }
            AlreadyRestarted { asked: false } => {
                self.leave_to_systemd(fault, "systemd has restarted it already", turn);
                self.step = Step::TheirRestart { until: turn.now.plus(RESTART_SLACK) };
                self.unit_changed(&state, turn);
            }
            RestartsItself(within) => {
                self.leave_to_systemd(fault, "systemd restarts it itself at once", turn);
                self.step = Step::TheirRestart { until: turn.now.plus(within).plus(RESTART_SLACK) };
            }
            NotLoaded(load) => {
                let why = format!("systemd cannot start the unit: it is {load}");
                fault.finding.summary.push_str(&format!("; {why}"));
                fault.remedy = Remedy::Hold(why);
                self.fail(fault, turn);
            }
            Ours { gave_up, .. } => {
                self.needs_reset = gave_up;
                if retry { self.restart(turn) } else { self.fail(fault, turn) }
            }
            Stale => self.fail(fault, turn),
        }
    }

    /// Nothing failed: somebody asked for it.
    fn stopped<O: Outbox>(&mut self, mut fault: Fault, why: &str, turn: &mut Turn<'_, O>) {
        fault.finding.verdict = Verdict::Stopped;
        fault.finding.summary = format!("{why}; {}", fault.finding.summary);
        self.fail(fault, turn);
    }

    /// Looks again before a restart that has waited: what was ours to do then may be somebody else's now.
    pub(super) fn retry<O: Outbox>(&mut self, turn: &mut Turn<'_, O>) {
        let exited = self.incident.as_ref().is_some_and(|open| open.incident.verdict == Verdict::Exited);
        if exited && self.cause(turn).is_some() {
            return self.blame_another(turn);
        }
        if exited && self.awaits_another(turn) {
            return self.wait_for_another(turn);
        }
        if self.is_unit {
            self.inspect_same(true, turn);
        } else {
            self.restart(turn);
        }
    }

    /// Asks systemd about the open incident.
    fn inspect_same<O: Outbox>(&mut self, retry: bool, turn: &mut Turn<'_, O>) {
        let Some(open) = &self.incident else {
            self.step = Step::Idle;
            return;
        };
        let finding = verdict::Finding {
            verdict: open.incident.verdict,
            confidence: open.incident.confidence,
            summary: open.incident.summary.clone(),
        };
        self.inspect(Fault::now(turn.now, finding), None, turn);
        if let Step::Inspect(inspection) = &mut self.step {
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
    fn leave_to_systemd<O: Outbox>(&mut self, fault: Fault, why: &str, turn: &mut Turn<'_, O>) {
        self.open_or_update(fault, turn);
        self.say_restart(Action::Hold(why.to_owned()), turn);
        if self.budget.left(turn.now) == 0 {
            let why = format!("systemd has spent its budget of {} restarts", self.budget.describe());
            self.loops(&why, turn);
        }
    }

    /// systemd's own restart has not led to a running main process in time.
    pub(super) fn their_restart_failed<O: Outbox>(&mut self, turn: &mut Turn<'_, O>) {
        self.inspect_same(false, turn);
    }

    /// A change nobody asked about: a new main process, or a unit that is down without a death seen.
    fn unit_changed<O: Outbox>(&mut self, state: &UnitState, turn: &mut Turn<'_, O>) {
        if let Some(main) = state.main {
            if state.active != "deactivating" {
                self.running(main, turn);
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
        match self.step {
            // A unit without a main process can still be up, and its probes say whether it is well.
            Step::Restarting { confirmed: true, .. } if !down => self.step = Step::Verify,
            Step::Restarting { confirmed: true, .. } => {
                self.step = Step::Idle;
                self.fail(Fault::now(turn.now, finding()), turn);
            }
            // The kernel's word on the death may still come, and says more.
            Step::Idle | Step::Verify if down && self.main.is_some() => {
                self.inspect(Fault::now(turn.now, finding()), None, turn);
                if let Step::Inspect(inspection) = &mut self.step {
                    inspection.hearsay = true;
                    inspection.again_at = Some(turn.now.plus(KERNEL_FIRST));
                }
            }
            Step::Idle if state.active == "failed" && self.incident.is_none() => {
                let event = turn.emit(Fact::Unit(state.clone(), self.id));
                let since = state.active_exit.unwrap_or(turn.now);
                let evidence = vec![event];
                self.judged_state = state.changed;
                let fault = Fault { since, evidence, ..Fault::now(turn.now, finding()) };
                self.fail(fault, turn);
            }
            // Somebody stopped it while it waited for another restart.
            Step::Backoff { .. } | Step::GivenUp { .. }
                if state.active == "inactive" && state.changed != self.judged_state && !self.was_reset =>
            {
                self.stopped(Fault::now(turn.now, finding()), "it was stopped meanwhile", turn);
            }
            Step::Idle
            | Step::Inspect(_)
            | Step::Succession { .. }
            | Step::Backoff { .. }
            | Step::Restarting { .. }
            | Step::TheirRestart { .. }
            | Step::Examine { .. }
            | Step::Snapshot { .. }
            | Step::FindPortHolder { .. }
            | Step::Verify
            | Step::GivenUp { .. } => {}
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
