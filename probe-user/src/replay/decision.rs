//! What the engine decides, in words that can be compared: as the stream says it, and as it is decided anew.

use crate::{
    clock::Timestamp,
    emit::{self, action, wire},
    engine::{Effect, Effects},
    fact::{Action, EventId, Fact, Phase},
};

/// Something the engine decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// When: RFC 3339, UTC.
    pub timestamp: String,
    /// The service it is about.
    pub service: String,
    /// What, in words: `incident opened: killed`, `restart`, `no restart: …`.
    pub what: String,
}

impl Decision {
    /// What sort of decision it is: one of the same sort can have been decided in its stead.
    pub(super) fn kind(&self) -> &str {
        let words = self.what.split(':').next().unwrap_or_default();
        if words == NO_RESTART { RESTART } else { words }
    }
}

/// What an event says was decided, in words.
pub(super) fn decided(record: &wire::Record) -> Option<String> {
    let verdict = record.incident.as_ref().and_then(|incident| incident.verdict);
    let words = verdict.map(|verdict| emit::word(&verdict)).unwrap_or_default();
    let reason = || record.event.reason.clone().unwrap_or_default();
    match record.event.action {
        action::Action::IncidentOpen => Some(opened(Phase::Open, &words)),
        action::Action::IncidentUpdate => Some(opened(Phase::Update, &words)),
        action::Action::IncidentResolve => Some(opened(Phase::Resolve, &words)),
        action::Action::RestartRequest => Some(RESTART.to_owned()),
        action::Action::RestartHold => Some(held(&reason())),
        action::Action::AgentStart
        | action::Action::AgentReady
        | action::Action::AgentReload
        | action::Action::AgentStop
        | action::Action::ProcessExit
        | action::Action::ProcessOomKill
        | action::Action::ListenerUp
        | action::Action::ListenerDown
        | action::Action::SocketError
        | action::Action::SocketRetransmit
        | action::Action::SocketBacklog
        | action::Action::ProcessSuspend
        | action::Action::ServiceDependency
        | action::Action::UnitState
        | action::Action::ProbeFail
        | action::Action::ProbeRecover
        | action::Action::ProbeSlow
        | action::Action::ServiceState
        | action::Action::RestartDone
        | action::Action::RestartFail
        | action::Action::AlertSend
        | action::Action::AlertFail
        | action::Action::EngineObserve
        | action::Action::StreamLoss => None,
    }
}

const RESTART: &str = "restart";
const NO_RESTART: &str = "no restart";

fn opened(phase: Phase, verdict: &str) -> String {
    match phase {
        Phase::Open => format!("incident opened: {verdict}"),
        Phase::Update => format!("incident updated: {verdict}"),
        Phase::Resolve => format!("incident over: {verdict}"),
    }
}

fn held(why: &str) -> String {
    format!("{NO_RESTART}: {why}")
}

/// Takes down what the engine decides, and does nothing.
pub(super) struct Ledger {
    /// The services' names, in the order of their ids.
    pub(super) names: Vec<String>,
    said: u64,
    /// Nanoseconds by which the wall clock's count is ahead of the time since boot.
    pub(super) wall_ahead: i128,
    pub(super) decisions: Vec<Decision>,
}

impl Ledger {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self { names, said: 0, wall_ahead: 0, decisions: Vec::new() }
    }
}

impl Effects for Ledger {
    fn publish(&mut self, fact: Fact, at: Timestamp) -> EventId {
        self.said += 1;
        let decision = match &fact {
            Fact::Incident(phase, incident) => {
                Some((incident.service, opened(*phase, incident.verdict.as_str())))
            }
            Fact::Restart(restart) => match &restart.action {
                Action::Request => Some((restart.service, RESTART.to_owned())),
                Action::Hold(why) => Some((restart.service, held(&emit::detail(why)))),
                Action::Done | Action::Fail(_) => None,
            },
            Fact::AgentStart(_)
            | Fact::AgentReady(_)
            | Fact::AgentReload(_)
            | Fact::AgentStop(_)
            | Fact::ProcessExit(..)
            | Fact::OomKill(..)
            | Fact::Listener(..)
            | Fact::SocketError(..)
            | Fact::Retransmits(..)
            | Fact::AcceptQueue(..)
            | Fact::Suspension(..)
            | Fact::Dependency(..)
            | Fact::Unit(..)
            | Fact::Probe(..)
            | Fact::ServiceState(..)
            | Fact::Alert(_)
            | Fact::Observed(_)
            | Fact::Loss { .. } => None,
        };
        if let Some((service, what)) = decision {
            let wall = jiff::Timestamp::from_nanosecond(i128::from(at.as_nanos()) + self.wall_ahead);
            let timestamp = format!("{:.9}", wall.unwrap_or(jiff::Timestamp::UNIX_EPOCH));
            let name = usize::try_from(service.0).ok().and_then(|at| self.names.get(at));
            let service = name.cloned().unwrap_or_default();
            self.decisions.push(Decision { timestamp, service, what });
        }
        EventId(self.said)
    }

    fn request(&mut self, _effect: Effect) {}
}
