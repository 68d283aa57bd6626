//! What is being done about a service that is not well.

use std::collections::VecDeque;

use super::fault::Fault;
use crate::{
    clock::Timestamp,
    config::RestartPolicy,
    engine::budget::Budget,
    fact::{ProbeFailure, ProcessExit},
};

/// The most starts that are remembered, to stay below a unit's StartLimit.
const MAX_STARTS: usize = 64;

/// What the engine is waiting for. [`Timer::Recovery`](super::timers::Timer::Recovery) ends most of the states.
#[derive(Debug)]
pub enum RecoveryState {
    Idle,
    /// systemd has to say what became of the unit.
    Inspecting(Box<Inspection>),
    Backoff,
    /// A restart is under way, and its main process is yet to come.
    Restarting {
        /// It was carried out. Only the main process is missing.
        confirmed: bool,
    },
    /// The main process ended well, and another may take its place.
    AwaitingSuccessor(Box<Fault>),
    /// systemd restarts the unit by itself.
    SystemdRestarting,
    /// A row of failures counts, and an examination has to say what the service does.
    Examining(Pending),
    /// What can be seen of its processes is written down before they are ended.
    Snapshotting,
    FindingPortHolder(Box<Fault>),
    /// The service has to prove well.
    Verifying,
    CrashLoopBackoff,
}

/// A row of failures that counts.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Which probe.
    pub index: usize,
    pub failure: ProbeFailure,
    pub detail: String,
}

/// A fault whose meaning depends on what systemd is doing.
#[derive(Debug)]
pub struct Inspection {
    pub fault: Fault,
    pub exit: Option<ProcessExit>,
    /// How often systemd did not know of the exit yet.
    pub tries: u32,
    /// How often systemd could not be asked.
    pub unanswered: u32,
    /// The decision is made, and is checked before it is carried out.
    pub retry: bool,
    /// Only an earlier state of the unit shows the fault.
    pub hearsay: bool,
}

#[derive(Debug)]
pub struct Recovery {
    state: RecoveryState,
    budget: Budget,
    /// All starts of the service, by hostprobe or not.
    starts: VecDeque<Timestamp>,
    /// Another process has its port.
    port_taken: bool,
    /// A restart would not mend the open incident.
    beyond_restart: bool,
}

impl Recovery {
    pub fn new(policy: &RestartPolicy) -> Self {
        Self {
            state: RecoveryState::Idle,
            budget: Budget::new(policy),
            starts: VecDeque::new(),
            port_taken: false,
            beyond_restart: false,
        }
    }

    pub fn state(&self) -> &RecoveryState {
        &self.state
    }

    /// Enters a state and returns the one before.
    pub fn enter(&mut self, state: RecoveryState) -> RecoveryState {
        std::mem::replace(&mut self.state, state)
    }

    pub fn inspection(&mut self) -> Option<&mut Inspection> {
        if let RecoveryState::Inspecting(inspection) = &mut self.state { Some(inspection) } else { None }
    }

    pub fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }

    pub fn count_start(&mut self, now: Timestamp) {
        self.starts.push_back(now);
        if self.starts.len() > MAX_STARTS {
            self.starts.pop_front();
        }
    }

    pub fn starts(&self) -> impl Iterator<Item = Timestamp> + '_ {
        self.starts.iter().copied()
    }

    pub fn was_started(&self) -> bool {
        !self.starts.is_empty()
    }

    pub fn port_taken(&self) -> bool {
        self.port_taken
    }

    pub fn set_port_taken(&mut self, taken: bool) {
        self.port_taken = taken;
    }

    pub fn beyond_restart(&self) -> bool {
        self.beyond_restart
    }

    pub fn set_beyond_restart(&mut self, beyond: bool) {
        self.beyond_restart = beyond;
    }
}
