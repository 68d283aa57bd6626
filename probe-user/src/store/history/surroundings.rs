//! What else happened around an incident: the events of the last minute before its fault, and those until its end, of all
//! services and of the host.
//!
//! A flight recorder keeps what may matter before anyone knows that it does. Both the events that are kept of all services and
//! those that an incident takes with it are bounded, and so are the events of one kind of one service: a neighbour that
//! crashes once a second must not leave room for nothing else.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::entry::{Entry, What, entry};
use crate::emit::{action::Action, wire::Record};

/// How long before a fault an event may matter, in microseconds.
pub(super) const BEFORE_US: i64 = 60_000_000;

/// The latest events that an incident may take with it when it opens.
pub(super) const LATELY: usize = 512;

/// The most events from before its fault that an incident takes with it, and the most afterwards.
pub(super) const BEFORE: usize = 24;
pub(super) const AFTER: usize = 40;

/// The most events of one kind of one service among either of them.
const ALIKE: usize = 6;

/// The longest message, in bytes.
const SHORT: usize = 400;

/// The latest events that may matter to an incident.
#[derive(Debug, Default)]
pub(super) struct Lately {
    /// With their times in microseconds since 1970.
    events: VecDeque<(i64, Entry)>,
}

impl Lately {
    /// Takes in an event of the stream, if it may matter to an incident of another service or before it. Returns it.
    pub(super) fn take(&mut self, record: &Record) -> Option<Entry> {
        if !may_matter(record.event.action) {
            return None;
        }
        let at = micros(&record.timestamp)?;
        let entry = entry(record, SHORT);
        if self.events.len() == LATELY {
            self.events.pop_front();
        }
        self.events.push_back((at, entry.clone()));
        Some(entry)
    }
}

/// Events of one incident's surroundings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Surroundings {
    events: Vec<Entry>,
    /// Those that there was no room for.
    pub(super) left_out: u64,
    /// How many are from before the fault.
    before: usize,
}

impl Surroundings {
    /// Those before a fault, at this time.
    pub(super) fn before(lately: &Lately, fault_us: i64) -> Self {
        let (mut found, mut alike) = (Self::default(), HashMap::new());
        let near = lately.events.iter().rev().filter(|(at, _)| *at >= fault_us - BEFORE_US);
        for (_, entry) in near {
            let count: &mut usize = alike.entry((entry.action, entry.service.as_deref())).or_default();
            *count += 1;
            if *count > ALIKE || found.events.len() == BEFORE {
                found.left_out += 1;
            } else {
                found.events.push(entry.clone());
            }
        }
        found.events.reverse();
        found.before = found.events.len();
        found
    }

    /// Takes in a later event, while there is room.
    pub(super) fn add(&mut self, entry: &Entry) {
        let later = self.events.get(self.before..).unwrap_or_default();
        let is_alike = |it: &&Entry| it.action == entry.action && it.service == entry.service;
        if later.len() >= AFTER || later.iter().filter(is_alike).count() >= ALIKE {
            self.left_out += 1;
        } else {
            self.events.push(entry.clone());
        }
    }

    pub(super) fn events(&self) -> &[Entry] {
        &self.events
    }
}

/// Whether a person who asks what happened wants to know of such events.
const fn may_matter(action: Action) -> bool {
    match action {
        Action::AgentStart
        | Action::AgentReload
        | Action::AgentStop
        | Action::ProcessExit
        | Action::ProcessOomKill
        | Action::ProcessSuspend
        | Action::ListenerUp
        | Action::ListenerDown
        | Action::SocketError
        | Action::SocketRetransmit
        | Action::SocketBacklog
        | Action::ServiceGrowth
        | Action::ProbeFail
        | Action::ProbeRecover
        | Action::ProbeSlow
        | Action::ServiceState
        | Action::HostState
        | Action::IncidentOpen
        | Action::IncidentResolve
        | Action::RestartRequest
        | Action::RestartDone
        | Action::RestartFail
        | Action::RestartHold
        | Action::HookRun
        | Action::OperatorCommand
        | Action::StreamLoss => true,
        // They are said again by others, or are of one receiver's.
        Action::AgentReady
        | Action::ServiceDependency
        | Action::UnitState
        | Action::IncidentUpdate
        | Action::AlertSend
        | Action::AlertFail
        | Action::AlertSuppress => false,
    }
}

/// Whether an incident has such an event of its own service among its steps.
pub(super) const fn is_step(what: What) -> bool {
    matches!(
        what,
        What::Event(
            Action::IncidentOpen
                | Action::IncidentResolve
                | Action::RestartRequest
                | Action::RestartDone
                | Action::RestartFail
                | Action::RestartHold
                | Action::ServiceState
                | Action::OperatorCommand
        )
    )
}

/// A time of RFC 3339 in microseconds since 1970.
pub(super) fn micros(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond)
}
