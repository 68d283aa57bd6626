//! The user's own programs that run at an event.

use std::time::Duration;

use super::{Incident, IncidentId, ServiceId};

/// What a hook runs at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookEvent {
    /// An incident has, for the first time, one of the hook's verdicts.
    IncidentOpen,
    IncidentResolve,
    /// A restart is about to be made, and waits for the hook.
    RestartBefore,
    /// A restart was made.
    RestartAfter,
}

impl HookEvent {
    pub const ALL: [Self; 4] =
        [Self::IncidentOpen, Self::IncidentResolve, Self::RestartBefore, Self::RestartAfter];

    /// The word used for it in events and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IncidentOpen => "incident.open",
            Self::IncidentResolve => "incident.resolve",
            Self::RestartBefore => "restart.before",
            Self::RestartAfter => "restart.after",
        }
    }
}

/// An event that hooks may run at.
#[derive(Clone, Debug, PartialEq)]
pub struct HookCall {
    pub event: HookEvent,
    pub service: ServiceId,
    pub incident: Option<Box<Incident>>,
}

/// How the run of a hook went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookRun {
    pub event: HookEvent,
    pub service: ServiceId,
    pub incident: Option<IncidentId>,
    /// Its program, without arguments.
    pub command: String,
    pub duration: Duration,
    /// None if it did not exit by itself.
    pub exit_code: Option<i32>,
    /// None if it exited with 0.
    pub error: Option<String>,
}
