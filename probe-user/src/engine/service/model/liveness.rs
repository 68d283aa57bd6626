//! Whether the main process does anything.

use std::time::Duration;

use crate::{
    clock::Timestamp,
    fact::{CoreSignal, EventId, Examination, Suspension},
};

/// The time limit of an examination.
const ANSWER: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub struct Liveness {
    /// The time of the pending request.
    requested_at: Option<Timestamp>,
    /// The latest examination since its probes began to fail.
    examination: Option<Examination>,
    /// The signal that stopped the main process.
    suspension: Option<(Suspension, EventId)>,
    /// The signal that ends the main process with a core dump.
    core_signal: Option<CoreSignal>,
    /// The process that was seen to write its core dump last. It does not outlive the dump.
    core_dump: Option<u32>,
}

impl Liveness {
    pub fn request(&mut self, now: Timestamp) {
        self.requested_at = Some(now);
    }

    pub fn forget_request(&mut self) {
        self.requested_at = None;
    }

    /// When the pending examination times out.
    pub fn answer_until(&self) -> Option<Timestamp> {
        self.requested_at.map(|at| at.plus(ANSWER))
    }

    pub fn awaits_answer(&self, now: Timestamp) -> bool {
        self.answer_until().is_some_and(|until| now < until)
    }

    pub fn answer(&mut self, found: Option<Examination>) {
        self.requested_at = None;
        self.core_dump = found.as_ref().and_then(|found| found.dumping_core).or(self.core_dump);
        if let Some(found) = &found
            && found.dumping_core.is_none()
            && self.core_signal.is_some_and(|signal| signal.at < found.at)
        {
            // It has not ended the process.
            self.core_signal = None;
        }
        self.examination = found;
    }

    pub fn examination(&self) -> Option<&Examination> {
        self.examination.as_ref()
    }

    pub fn forget_examination(&mut self) {
        self.examination = None;
    }

    pub fn suspension(&self) -> Option<&(Suspension, EventId)> {
        self.suspension.as_ref()
    }

    /// True if a stop signal was known already.
    pub fn suspend(&mut self, stop: Suspension, event: EventId) -> bool {
        self.suspension.replace((stop, event)).is_some()
    }

    pub fn core_dump(&self) -> Option<u32> {
        self.core_dump
    }

    pub fn core_signal(&self) -> Option<CoreSignal> {
        self.core_signal
    }

    pub fn set_core_signal(&mut self, signal: CoreSignal) {
        self.core_signal = Some(signal);
    }

    pub fn resume(&mut self) {
        self.suspension = None;
    }
}
