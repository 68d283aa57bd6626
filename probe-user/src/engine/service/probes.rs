//! What a service's probes say of it.

use std::time::Duration;

use super::{Fault, Service, Step};
use crate::{
    clock::Timestamp,
    config,
    engine::{Outbox, Turn, verdict},
    fact::{EventId, Fact, ProbeChange, ProbeFailure, ProbeOutcome, ProbeReport},
};

/// The most failures of a row that are kept as evidence.
const MAX_FAILURES_KEPT: usize = 16;

/// One probe of a service.
#[derive(Debug)]
pub(super) struct ProbeState {
    failures: u32,
    slow_above: Option<Duration>,
    /// Results of runs that began before are of the process that was.
    since: Timestamp,
    /// Its latest answer was right.
    pub(super) ok: bool,
    /// When its answers became right.
    pub(super) well_at: Option<Timestamp>,
    /// How long the latest took.
    pub(super) took: Option<Duration>,
    /// The service says itself that it is starting.
    pub(super) starting: Option<String>,
    /// The latest answer was right but slow, in words.
    slow: Option<String>,
    /// The row of failures that count: how many, since when, and their events.
    in_a_row: u32,
    first_failed: Timestamp,
    evidence: Vec<EventId>,
    /// Failures told of since it last succeeded, restarts or not.
    told: u32,
}

impl ProbeState {
    pub(super) fn new(spec: &config::Probe) -> Self {
        Self {
            failures: spec.failures.max(1),
            slow_above: spec.slow,
            since: Timestamp::default(),
            ok: false,
            well_at: None,
            took: None,
            starting: None,
            slow: None,
            in_a_row: 0,
            first_failed: Timestamp::default(),
            evidence: Vec::new(),
            told: 0,
        }
    }

    /// Forgets what it found of the process that was.
    pub(super) fn begin_anew(&mut self, now: Timestamp) {
        self.doubt(now);
        self.starting = None;
        self.slow = None;
        self.in_a_row = 0;
        self.evidence.clear();
    }

    /// What it found before a fault proves nothing after it.
    pub(super) fn doubt(&mut self, since: Timestamp) {
        self.since = since;
        self.ok = false;
        self.well_at = None;
    }

    /// Whether its failures have begun to count.
    pub(super) fn failing(&self) -> bool {
        self.in_a_row > 0
    }

    /// What makes the service degraded rather than healthy, in words.
    pub(super) fn complaint(&self) -> Option<String> {
        self.slow.clone()
    }

    fn succeeded(&mut self, report: &ProbeReport) -> Option<ProbeChange> {
        if !self.ok {
            self.well_at = Some(report.at);
        }
        self.ok = true;
        self.starting = None;
        self.evidence.clear();
        self.in_a_row = 0;
        let recovered = std::mem::take(&mut self.told);
        let was_slow = self.slow.is_some();
        self.slow = self.slow_above.filter(|&limit| report.duration > limit).map(|limit| {
            format!(
                "{} answered in {} ms, above its limit of {} ms",
                report.target,
                report.duration.as_millis(),
                limit.as_millis()
            )
        });
        if recovered > 0 {
            Some(ProbeChange::Recover(recovered))
        } else {
            (self.slow.is_some() && !was_slow).then_some(ProbeChange::Slow)
        }
    }
}

impl Service {
    /// A probe ended.
    pub(in crate::engine) fn probed<O: Outbox>(&mut self, report: ProbeReport, turn: &mut Turn<'_, O>) {
        let counts = turn.now >= self.grace_until && matches!(self.step, Step::Idle | Step::Verify);
        let Some(probe) = self.probes.get_mut(report.index) else { return };
        let begun = report.at.as_nanos().saturating_sub(report.duration.as_nanos() as u64);
        if begun < probe.since.as_nanos() {
            return;
        }
        probe.took = Some(report.duration);
        match &report.outcome {
            ProbeOutcome::Ok => {
                // Another socket serves the same port, if it was asked after the listener went.
                self.lost_listener = self.lost_listener.filter(|(since, ..)| begun <= since.as_nanos());
                if let Some(change) = probe.succeeded(&report) {
                    turn.out.emit(Fact::Probe(report.clone(), change), report.at);
                }
            }
            ProbeOutcome::Starting(detail) => {
                probe.begin_anew(probe.since);
                probe.starting = Some(detail.clone());
            }
            ProbeOutcome::Failed(failure, detail) => {
                probe.ok = false;
                probe.starting = None;
                if counts {
                    let (failure, detail) = (*failure, detail.clone());
                    self.probe_failed(report, failure, &detail, turn);
                }
            }
        }
    }

    /// A failure that counts.
    fn probe_failed<O: Outbox>(
        &mut self,
        report: ProbeReport,
        failure: ProbeFailure,
        detail: &str,
        turn: &mut Turn<'_, O>,
    ) {
        let (at, index, stopped) = (report.at, report.index, self.unit_is_stopped());
        let Some(probe) = self.probes.get_mut(index) else { return };
        if probe.in_a_row == 0 {
            probe.first_failed = at;
        }
        probe.in_a_row = probe.in_a_row.saturating_add(1);
        probe.told = probe.told.saturating_add(1);
        let event = turn.out.emit(Fact::Probe(report, ProbeChange::Fail(probe.in_a_row)), at);
        if probe.evidence.len() < MAX_FAILURES_KEPT {
            probe.evidence.push(event);
        }
        // An open incident is judged again only where a restart was meant to mend it and did not.
        let mended =
            self.beyond_restart && verdict::restart_may_help(failure) && matches!(self.step, Step::Idle);
        let again = self.incident.is_none() || matches!(self.step, Step::Verify) || mended;
        if probe.in_a_row >= probe.failures && again && !stopped {
            let fault = Fault {
                since: probe.first_failed,
                detected: turn.now,
                finding: verdict::of_probes(failure, detail, probe.in_a_row, self.main.is_some()),
                evidence: std::mem::take(&mut probe.evidence),
                may_help: verdict::restart_may_help(failure),
            };
            self.fail_alive(fault, turn);
        }
    }
}
