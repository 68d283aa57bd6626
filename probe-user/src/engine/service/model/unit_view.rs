//! A service's unit as systemd reports it.

use std::time::Duration;

use crate::{
    clock::Timestamp,
    engine::unit::meaning::{self, Known, Meaning, Phase, Row},
    fact::{EventId, UnitState},
};

/// The bound of a start that systemd does not bound (`TimeoutStartSec=infinity`).
const ENDLESS_START: Duration = Duration::from_secs(15 * 60);

/// A service may ask systemd for more time than its `TimeoutStartSec=` (`EXTEND_TIMEOUT_USEC=`).
const EXTENDED: u32 = 2;

#[derive(Debug, Default)]
pub struct UnitView {
    state: Option<UnitState>,
    /// What the state means.
    row: Option<&'static Row>,
    /// The state that the engine judged last, and its event.
    judged: Option<(UnitState, EventId)>,
    /// The unit's invocation that the main process belongs to.
    invocation: Option<String>,
    /// systemd has given up on the unit: it refuses every start before a reset.
    needs_reset: bool,
    /// The latest ended job that is known.
    ended_job: Option<u32>,
}

impl UnitView {
    /// Takes in a state. Returns the one before.
    pub fn update(&mut self, state: UnitState) -> Option<UnitState> {
        self.row = Some(meaning::of(&state, Known::default()));
        self.state.replace(state)
    }

    /// Takes note of the latest ended job. True if it is new and changed nothing of a unit that is down: it was a request
    /// to stop the unit. A start that systemd skips changes nothing either.
    pub fn take_idle_job(&mut self, state: &UnitState) -> bool {
        let Some(job) = &state.ended_job else { return false };
        let is_new = self.ended_job.replace(job.id) != Some(job.id);
        is_new && job.idle && job.result == "done" && !state.skipped
    }

    pub fn judge(&mut self, state: &UnitState, event: EventId) {
        self.judged = Some((state.clone(), event));
    }

    /// The event of the last judged state, if this one is the same.
    pub fn judged_as(&self, state: &UnitState) -> Option<EventId> {
        let same = |judged: &UnitState| {
            (&judged.active, &judged.sub, &judged.result, &judged.invocation_id, &judged.load, &judged.job)
                == (&state.active, &state.sub, &state.result, &state.invocation_id, &state.load, &state.job)
        };
        self.judged.as_ref().filter(|(judged, _)| same(judged)).map(|(_, event)| *event)
    }

    pub fn invocation(&self) -> Option<&str> {
        self.invocation.as_deref()
    }

    pub fn set_invocation(&mut self, id: &str) {
        self.invocation = Some(id.to_owned());
    }

    /// Whether a main process ran in the run that a state is about.
    pub fn main_ran(&self, state: &UnitState) -> bool {
        !state.invocation_id.is_empty() && self.invocation() == Some(&state.invocation_id)
    }

    pub fn set_needs_reset(&mut self, needs_reset: bool) {
        self.needs_reset = needs_reset;
    }

    pub fn is(&self, active: &str) -> bool {
        self.state.as_ref().is_some_and(|unit| unit.active == active)
    }

    /// Its canonical name.
    pub fn id(&self) -> Option<&str> {
        self.state.as_ref().map(|unit| unit.id.as_str()).filter(|id| !id.is_empty())
    }

    pub fn meaning(&self) -> Option<(&UnitState, &'static Row)> {
        self.state.as_ref().zip(self.row)
    }

    pub fn is_in(&self, phase: Phase) -> bool {
        self.row.is_some_and(|row| row.phase == phase)
    }

    pub fn means(&self, meaning: Meaning) -> bool {
        self.row.is_some_and(|row| row.meaning == meaning)
    }

    /// Whether its restart by hostprobe still makes systemd stop or start it.
    pub fn is_between(&self) -> bool {
        self.is_in(Phase::Stopping) || self.is_in(Phase::Starting)
    }

    /// Whether the operator has stopped it since the engine judged it.
    pub fn was_stopped_since(&self, state: &UnitState) -> bool {
        state.active == "inactive" && meaning::was_asked(state) && self.judged_as(state).is_none()
    }

    /// How long its start may still take, if it is starting and has a bound.
    pub fn start_bound(&self) -> Option<Duration> {
        let (state, _) = self.meaning().filter(|(_, row)| row.phase == Phase::Starting)?;
        let bound = match state.start_timeout {
            Some(timeout) => timeout.saturating_mul(EXTENDED),
            None if meaning::is_oneshot(state) => return None,
            None => ENDLESS_START,
        };
        let lasted = state.started.map(|started| state.at.since(started)).unwrap_or_default();
        Some(bound.saturating_sub(lasted).max(Duration::from_secs(1)))
    }

    /// How long systemd may take to stop and start it; None if that has no bound.
    pub fn restart_bound(&self) -> Option<Duration> {
        let state = self.state.as_ref()?;
        Some(state.stop_timeout?.saturating_add(state.start_timeout?))
    }

    /// Whether the unit's StartLimit, which counts hostprobe's starts too, would refuse one more start.
    ///
    /// The budget of the service decides how often hostprobe restarts it. Without a reset the unit would stay
    /// `start-limit-hit` and refuse even an operator's start.
    pub fn start_limit_is_near(&self, starts: impl Iterator<Item = Timestamp>, now: Timestamp) -> bool {
        let Some(unit) = &self.state else { return false };
        let (burst, interval) = unit.start_limit;
        let recent = starts.filter(|&start| now.since(start) < interval).count();
        self.needs_reset || recent + 1 >= burst as usize
    }
}
