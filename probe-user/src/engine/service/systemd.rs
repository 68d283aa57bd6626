//! What systemd has to say before its unit is touched.
//!
//! systemd may be stopping the unit because somebody asked for it, may have restarted it already, or may be
//! about to. None of that is ours to undo or to do twice, so its word is read before a decision.

use std::time::Duration;

use UnitJudgement::{AlreadyRestarted, NotLoaded, Ours, RestartsItself, Stale, StillRuns, StopRequested};

use super::{Fault, Service, Step};
use crate::{
    clock::Timestamp,
    engine::{
        Effect, Outbox, Turn,
        unit::{UnitJudgement, judge, stopped_by_manager},
        verdict,
    },
    fact::{Action, Fact, ProcessExit, ProcessKey, UnitState, Verdict},
};

/// systemd has not taken note of the death yet: ask again after this long, this often.
const STALE_WAIT: Duration = Duration::from_millis(3);
const STALE_TRIES: u32 = 300;

/// How much later than it should systemd's own restart may come: its timers have a slack of up to 260 ms.
const RESTART_SLACK: Duration = Duration::from_millis(500);

/// A fault whose meaning depends on what systemd is doing.
#[derive(Debug)]
pub(super) struct Inspection {
    fault: Fault,
    exit: Option<ProcessExit>,
    tries: u32,
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
        self.step = Step::Inspect(Box::new(Inspection { fault, exit, tries: 0, again_at: None }));
        turn.act(Effect::InspectUnit(self.id));
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

    /// systemd could not be asked: without its word the unit is not touched.
    pub(in crate::engine) fn unit_unknown<O: Outbox>(&mut self, error: &str, turn: &mut Turn<'_, O>) {
        if let Step::Inspect(inspection) = std::mem::replace(&mut self.step, Step::Idle) {
            let fault = Fault { may_help: false, ..inspection.fault };
            self.fail(fault, turn);
            self.say_restart(Action::Hold(format!("systemd does not say what the unit does: {error}")), turn);
        }
    }

    fn judged<O: Outbox>(
        &mut self,
        mut inspection: Box<Inspection>,
        state: UnitState,
        turn: &mut Turn<'_, O>,
    ) {
        let judgement = inspection.judge(&state, self.invocation.as_deref(), self.main);
        if judgement == Stale && inspection.tries < STALE_TRIES {
            inspection.again_at = Some(turn.now.plus(STALE_WAIT));
            self.step = Step::Inspect(inspection);
            return;
        }
        let event = turn.emit(Fact::Unit(state.clone(), self.id));
        let mut fault = inspection.fault;
        fault.evidence.push(event);
        match judgement {
            StopRequested(why) => {
                fault.finding.verdict = Verdict::Stopped;
                fault.finding.summary = format!("{why}; {}", fault.finding.summary);
                self.fail(fault, turn);
                self.unit_changed(&state, turn);
            }
            StillRuns => self.unit_changed(&state, turn),
            AlreadyRestarted { asked: true } => {
                fault.finding.verdict = Verdict::Stopped;
                fault.finding.summary = format!("it was restarted on request; {}", fault.finding.summary);
                self.fail(fault, turn);
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
                fault.may_help = false;
                fault.finding.summary.push_str(&format!("; systemd cannot start the unit: it is {load}"));
                self.fail(fault, turn);
            }
            Ours { gave_up, .. } => {
                self.needs_reset = gave_up;
                self.fail(fault, turn);
            }
            Stale => self.fail(fault, turn),
        }
    }

    /// Opens or updates the incident, and leaves the restart to systemd, unless the budget is spent.
    fn leave_to_systemd<O: Outbox>(&mut self, fault: Fault, why: &str, turn: &mut Turn<'_, O>) {
        self.open_or_update(fault, turn);
        self.say_restart(Action::Hold(why.to_owned()), turn);
        if self.budget.left(turn.now) == 0 {
            let why = format!("systemd has spent its budget of {} restarts", self.budget.describe());
            self.loops(&why, turn);
            self.alert_now(turn);
        }
    }

    /// systemd's own restart has not led to a running main process in time.
    pub(super) fn their_restart_failed<O: Outbox>(&mut self, turn: &mut Turn<'_, O>) {
        let Some(open) = &self.incident else {
            self.step = Step::Idle;
            return;
        };
        let finding = verdict::Finding {
            verdict: open.incident.verdict,
            confidence: open.incident.confidence,
            summary: open.incident.summary.clone(),
        };
        let fault = Fault::now(turn.now, finding);
        self.inspect(fault, None, turn);
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
        let unexplained = self.incident.is_none() && matches!(self.step, Step::Idle) && state.job.is_none();
        if state.active == "failed" && unexplained && self.main.is_none() {
            let event = turn.emit(Fact::Unit(state.clone(), self.id));
            let since = state.active_exit.unwrap_or(turn.now);
            let finding = verdict::of_unit(state);
            let fault = Fault { since, detected: turn.now, finding, evidence: vec![event], may_help: true };
            self.fail(fault, turn);
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

impl Inspection {
    /// What systemd's word on the unit means for the fault; `before` is the invocation that the fault hit,
    /// `alive` its main process, if that lives.
    fn judge(&self, state: &UnitState, before: Option<&str>, alive: Option<ProcessKey>) -> UnitJudgement {
        match &self.exit {
            Some(exit) if stopped_by_manager(state, exit) => StopRequested("systemd itself ended it"),
            Some(exit) => judge(state, &exit.process.key, exit.at, before),
            None if state.active == "deactivating"
                || state.job.as_ref().is_some_and(|job| job.kind == "stop") =>
            {
                StopRequested("systemd is stopping it")
            }
            None if state.main.is_some() && state.main != alive => AlreadyRestarted { asked: false },
            None => Ours { gave_up: state.active == "failed" && state.restarts_itself, waits: None },
        }
    }
}
