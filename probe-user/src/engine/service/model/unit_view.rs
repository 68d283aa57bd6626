//! A service's unit as systemd reports it.

use crate::{clock::Timestamp, fact::UnitState};

#[derive(Debug, Default)]
pub struct UnitView {
    state: Option<UnitState>,
    /// The unit's invocation that the main process belongs to.
    invocation: Option<String>,
    /// When the judged state had last changed. The engine did not cause a later change.
    judged_change: Option<Timestamp>,
    /// systemd has given up on the unit: it refuses every start before a reset.
    needs_reset: bool,
    /// hostprobe has cleared its failed state, which makes the unit look stopped.
    was_reset: bool,
}

impl UnitView {
    pub fn update(&mut self, state: UnitState) {
        self.state = Some(state);
    }

    pub fn judge(&mut self, state: &UnitState) {
        self.judged_change = state.changed;
    }

    pub fn invocation(&self) -> Option<&str> {
        self.invocation.as_deref()
    }

    pub fn set_invocation(&mut self, id: &str) {
        self.invocation = Some(id.to_owned());
    }

    pub fn set_needs_reset(&mut self, needs_reset: bool) {
        self.needs_reset = needs_reset;
    }

    pub fn set_was_reset(&mut self, was_reset: bool) {
        self.was_reset = was_reset;
    }

    pub fn is(&self, active: &str) -> bool {
        self.state.as_ref().is_some_and(|unit| unit.active == active)
    }

    /// Whether the operator has stopped it since the engine judged it.
    pub fn was_stopped_since(&self, state: &UnitState) -> bool {
        state.active == "inactive" && state.changed != self.judged_change && !self.was_reset
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
