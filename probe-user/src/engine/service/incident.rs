//! The incident of a service: opened, brought up to date, resolved, and alerted at the right moment.

use std::time::Duration;

use super::{Fault, Service, Step};
use crate::{
    clock::Timestamp,
    engine::{Effect, Outbox, Turn},
    fact::{Fact, Incident, Phase, Severity, Timing, Verdict},
};

/// How long an incident that is being acted on may last before somebody is told: one that a restart heals
/// sooner is for the record only.
const ALERT_PATIENCE: Duration = Duration::from_secs(10);

/// The most events an incident keeps as evidence; the first and the latest tell the story.
const MAX_EVIDENCE: usize = 64;

/// An incident that is open.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) incident: Incident,
    /// When somebody is to be told, unless it is over by then.
    pub(super) alert_at: Option<Timestamp>,
    alerted: bool,
}

impl Open {
    fn step(&self, at: Timestamp) -> Option<Duration> {
        Some(at.since(self.incident.since))
    }

    /// The first restart was issued.
    pub(super) fn acted(&mut self, at: Timestamp) {
        self.incident.attempts += 1;
        self.incident.timing.acted = self.incident.timing.acted.or(self.step(at));
    }

    /// It listens again, by the kernel's word.
    pub(super) fn listening(&mut self, at: Timestamp) {
        self.incident.timing.listening = self.step(at);
    }
}

impl Service {
    /// Opens an incident for a fault, or adds the fault to the one that is open, and decides what to do.
    pub(super) fn fail<O: Outbox>(&mut self, fault: Fault, turn: &mut Turn<'_, O>) {
        let may_help = fault.may_help;
        self.open_or_update(fault, turn);
        self.decide(may_help, turn);
    }

    /// Opens an incident for a fault, or adds the fault to the one that is open.
    pub(super) fn open_or_update<O: Outbox>(&mut self, fault: Fault, turn: &mut Turn<'_, O>) {
        let severity = self.severity(fault.finding.verdict);
        for probe in &mut self.probes {
            probe.doubt(fault.since);
        }
        match &mut self.incident {
            None => {
                let incident = Incident {
                    id: turn.next_incident(),
                    service: self.id,
                    verdict: fault.finding.verdict,
                    confidence: fault.finding.confidence,
                    summary: fault.finding.summary,
                    severity,
                    cause: self.id,
                    evidence: fault.evidence,
                    held: Vec::new(),
                    since: fault.since,
                    timing: Timing::default(),
                    attempts: 0,
                    snapshot: None,
                };
                let mut open =
                    Open { incident, alert_at: Some(turn.now.plus(ALERT_PATIENCE)), alerted: false };
                open.incident.timing.detected = open.step(fault.detected);
                open.incident.timing.decided = open.step(turn.now);
                if fault.finding.verdict == Verdict::Stopped {
                    open.alert_at = None;
                }
                turn.emit(Fact::Incident(Phase::Open, open.incident.clone()));
                self.incident = Some(open);
            }
            Some(open) => {
                if !open.alerted {
                    // A stop is nobody's alarm; what fails after it is.
                    let due = open.alert_at.unwrap_or(turn.now.plus(ALERT_PATIENCE));
                    open.alert_at = (fault.finding.verdict != Verdict::Stopped).then_some(due);
                }
                open.incident.verdict = fault.finding.verdict;
                open.incident.confidence = fault.finding.confidence;
                open.incident.summary = fault.finding.summary;
                open.incident.severity = severity;
                open.incident.timing.listening = None;
                let room = MAX_EVIDENCE.saturating_sub(open.incident.evidence.len());
                open.incident.evidence.extend(fault.evidence.into_iter().take(room));
                turn.emit(Fact::Incident(Phase::Update, open.incident.clone()));
            }
        }
    }

    /// The open incident has become a crash loop.
    pub(super) fn loops<O: Outbox>(&mut self, why: &str, turn: &mut Turn<'_, O>) {
        let severity = self.severity(Verdict::CrashLoop);
        let Some(open) = &mut self.incident else { return };
        let last = std::mem::take(&mut open.incident.summary);
        let last = last.split("; last: ").last().unwrap_or_default();
        open.incident.summary = format!("it fails again and again: {why}; last: {last}");
        open.incident.verdict = Verdict::CrashLoop;
        open.incident.severity = severity;
        turn.emit(Fact::Incident(Phase::Update, open.incident.clone()));
        self.alert_now(turn);
    }

    /// The service has proved well: the incident is over.
    pub(super) fn resolve<O: Outbox>(&mut self, turn: &mut Turn<'_, O>) {
        let Some(mut open) = self.incident.take() else { return };
        self.step = Step::Idle;
        let healthy = self.probes.iter().filter_map(|probe| probe.well_at).max().unwrap_or(turn.now);
        open.incident.timing.healthy = open.step(healthy);
        let stopped = open.incident.verdict == Verdict::Stopped;
        if !open.alerted {
            open.incident.severity = Severity::Info;
            if !stopped {
                turn.act(Effect::Alert { incident: open.incident.clone(), resolved: false });
            }
        }
        turn.emit(Fact::Incident(Phase::Resolve, open.incident.clone()));
        if open.alerted || !stopped {
            turn.act(Effect::Alert { incident: open.incident, resolved: true });
        }
    }

    /// Tells the receivers, if the incident has lasted long enough.
    pub(super) fn alert_if_due<O: Outbox>(&mut self, turn: &mut Turn<'_, O>) {
        if self.incident.as_ref().and_then(|open| open.alert_at).is_some_and(|at| at <= turn.now) {
            self.alert_now(turn);
        }
    }

    /// Tells the receivers of the incident as it stands.
    pub(super) fn alert_now<O: Outbox>(&mut self, turn: &mut Turn<'_, O>) {
        let Some(open) = &mut self.incident else { return };
        open.alert_at = None;
        open.alerted = true;
        turn.act(Effect::Alert { incident: open.incident.clone(), resolved: false });
    }

    fn severity(&self, verdict: Verdict) -> Severity {
        match verdict {
            Verdict::Stopped => Severity::Info,
            Verdict::CrashLoop => Severity::Critical,
            Verdict::WorkerDied | Verdict::Slow | Verdict::Overloaded | Verdict::LimitExceeded => {
                Severity::Warning
            }
            Verdict::Crashed
            | Verdict::Exited
            | Verdict::OomKilled
            | Verdict::Killed
            | Verdict::NotListening
            | Verdict::Unhealthy
            | Verdict::Hung
            | Verdict::DependencyDown
            | Verdict::Unhealed
            | Verdict::PoolExhausted
            | Verdict::MemoryFull
            | Verdict::Network => {
                if self.critical {
                    Severity::Critical
                } else {
                    Severity::Warning
                }
            }
        }
    }
}
