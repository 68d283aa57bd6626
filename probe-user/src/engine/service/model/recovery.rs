//! The recovery of an unhealthy service.

use std::collections::VecDeque;

use super::fault::Fault;
use crate::{
    clock::Timestamp,
    engine::{
        budget::Budget,
        succession::{End, Traits},
    },
    fact::{HostSubject, Incident, ProbeFailure, ProcessExit, RestartMethod, RestartPolicy},
};

/// The most remembered starts. They keep the service below its unit's StartLimit.
const MAX_STARTS: usize = 64;

/// What the engine waits for. [`Timer::Recovery`](super::timers::Timer::Recovery) ends most of the states.
#[derive(Debug)]
pub enum RecoveryState {
    Idle,
    /// The first start of its command waits for other services; with their names once it is published.
    WaitingToStart(Option<String>),
    /// The engine waits for the unit's state.
    Inspecting(Box<Inspection>),
    Backoff,
    /// The restart budget of all services together is spent.
    AwaitingHostBudget,
    /// The host lacks something that a start takes. The engine tells when it has it again.
    AwaitingHost(HostSubject),
    /// A restart is in progress and has not led to a main process yet.
    Restarting {
        /// The restart was made. Only the main process is missing.
        confirmed: bool,
    },
    /// The main process exited with success, and a successor may replace it.
    AwaitingSuccessor(Box<Fault>),
    /// Other processes of a supervised command outlived its main process. One of them may take its place.
    FindingSuccessor(Box<Succession>),
    /// systemd restarts the unit by itself.
    SystemdRestarting,
    /// A row of failures counts, and an examination is in progress.
    Examining {
        streak: FailureStreak,
        /// It was to prove healthy, as in `Verifying`, when its probes failed.
        verifying: bool,
    },
    /// The daemon takes a snapshot of the processes before the restart.
    Snapshotting,
    FindingPortHolder(Box<Fault>),
    /// The service has to prove healthy.
    Verifying,
    CrashLoopBackoff,
}

/// Consecutive failures of a probe, as many as its `failures`.
#[derive(Clone, Debug)]
pub struct FailureStreak {
    /// Which probe.
    pub index: usize,
    pub failure: ProbeFailure,
    pub detail: String,
}

/// The search for the process that takes the place of a supervised main process.
#[derive(Debug)]
pub struct Succession {
    /// What has failed if there is none.
    pub fault: Fault,
    /// The pid of the main process that ended.
    pub of: u32,
    pub end: End,
    /// The ports of the listeners that a successor should hold.
    pub ports: Vec<u16>,
    /// The main process served on these ports, so a successor has to.
    pub needs_ports: bool,
    /// What holds whichever process is found.
    pub traits: Traits,
    /// The executable and the name of the main process.
    pub program: (Option<String>, String),
    /// The main process itself began to listen.
    pub listened: bool,
    /// A process that started later is none of the first workers.
    pub workers_started: Option<Timestamp>,
    /// Until then a successor may begin to listen.
    pub until: Timestamp,
    /// The last search found no listener, and the next is due.
    pub waits: bool,
    /// A successor was found, and the daemon takes it in.
    pub adopts: bool,
}

/// A fault whose meaning depends on the unit's state.
#[derive(Debug)]
pub struct Inspection {
    pub fault: Fault,
    pub exit: Option<ProcessExit>,
    /// How often systemd had not noticed the exit yet.
    pub tries: u32,
    /// How often systemd did not answer.
    pub unanswered: u32,
    /// The decision is made. This inspection checks it before the restart.
    pub retry: bool,
    /// Only an earlier state of the unit shows the fault.
    pub from_earlier_state: bool,
}

/// A restart that was requested and whose outcome has not come yet. The service can be well before it comes.
#[derive(Debug)]
pub struct RequestedRestart {
    /// The incident that it is to mend, as it was at the request.
    pub incident: Option<Box<Incident>>,
    pub method: RestartMethod,
    pub attempt: u32,
    pub reason: String,
}

#[derive(Debug)]
pub struct Recovery {
    state: RecoveryState,
    budget: Budget,
    /// All starts of the service, by hostprobe or another supervisor.
    starts: VecDeque<Timestamp>,
    /// Another process has its port.
    port_taken: bool,
    is_restart_useless: bool,
    /// The operator's order that the present restart carries out, in words.
    asked: Option<String>,
    requested: Option<Box<RequestedRestart>>,
    /// Since when its restart waits for room in the budget of all services.
    held_since: Option<Timestamp>,
}

impl Recovery {
    pub fn new(policy: &RestartPolicy) -> Self {
        Self {
            state: RecoveryState::Idle,
            budget: Budget::new(policy),
            starts: VecDeque::new(),
            port_taken: false,
            is_restart_useless: false,
            asked: None,
            requested: None,
            held_since: None,
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

    /// The restarts that count against the budget, by their times.
    pub fn spent(&self) -> Vec<Timestamp> {
        self.budget.spent().iter().copied().collect()
    }

    /// Whether these are the restarts that count.
    pub fn has_spent(&self, spent: &[Timestamp]) -> bool {
        self.budget.spent().iter().eq(spent)
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

    pub fn held_since(&self) -> Option<Timestamp> {
        self.held_since
    }

    pub fn set_held_since(&mut self, since: Option<Timestamp>) {
        self.held_since = since;
    }

    pub fn port_taken(&self) -> bool {
        self.port_taken
    }

    pub fn set_port_taken(&mut self, taken: bool) {
        self.port_taken = taken;
    }

    pub fn is_restart_useless(&self) -> bool {
        self.is_restart_useless
    }

    pub fn asked(&self) -> Option<&str> {
        self.asked.as_deref()
    }

    pub fn set_asked(&mut self, order: Option<String>) {
        self.asked = order;
    }

    /// Awaits the outcome of this restart. That of an earlier one does not come any more, or cannot be told apart.
    pub fn set_requested(&mut self, requested: Option<RequestedRestart>) {
        self.requested = requested.map(Box::new);
    }

    /// The restart that the outcome at hand is of; None if nothing was requested, or its outcome has come before.
    pub fn take_requested(&mut self) -> Option<Box<RequestedRestart>> {
        self.requested.take()
    }

    pub fn set_restart_useless(&mut self, useless: bool) {
        self.is_restart_useless = useless;
    }
}
