//! What a service's probes say of it.

use std::time::Duration;

use super::{Fault, Pending, RecoveryState, Remedy, Service};
use crate::{
    clock::Timestamp,
    config,
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        verdict,
    },
    fact::{EventId, Examination, Fact, ProbeChange, ProbeFailure, ProbeOutcome, ProbeReport, Verdict},
};

/// So many answers in a row within the limit end a slowness that counted.
const QUICK_AGAIN: u32 = 2;

/// The most failures of a row that are kept as evidence.
const MAX_FAILURES_KEPT: usize = 16;

/// One probe of a service.
#[derive(Debug)]
pub(super) struct ProbeState {
    failures: u32,
    timeout: Duration,
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
    /// Its answers are right but slow, in words.
    pub(super) slow: Option<String>,
    /// Slow answers in a row, since when, and then quick ones in a row.
    slow_in_a_row: u32,
    first_slow: Timestamp,
    quick_in_a_row: u32,
    /// The latest failure was a timeout.
    pub(super) timed_out: bool,
    /// The row of failures that count: how many, since when, and their events.
    pub(super) in_a_row: u32,
    pub(super) first_failed: Timestamp,
    last_failed: Timestamp,
    pub(super) evidence: Vec<EventId>,
    /// Failures told of since it last succeeded, restarts or not.
    told: u32,
}

impl ProbeState {
    pub(super) fn new(spec: &config::Probe) -> Self {
        Self {
            failures: spec.failures.max(1),
            timeout: spec.timeout,
            slow_above: spec.slow,
            since: Timestamp::default(),
            ok: false,
            well_at: None,
            took: None,
            starting: None,
            slow: None,
            slow_in_a_row: 0,
            first_slow: Timestamp::default(),
            quick_in_a_row: 0,
            timed_out: false,
            in_a_row: 0,
            first_failed: Timestamp::default(),
            last_failed: Timestamp::default(),
            evidence: Vec::new(),
            told: 0,
        }
    }

    /// Forgets what it found of the process that was.
    pub(super) fn begin_anew(&mut self, now: Timestamp) {
        self.doubt(now);
        self.starting = None;
        self.slow = None;
        self.slow_in_a_row = 0;
        self.in_a_row = 0;
        self.timed_out = false;
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
        self.timed_out = false;
        let recovered = std::mem::take(&mut self.told);
        let was_slow = self.slow.is_some();
        self.note_duration(report);
        if recovered > 0 {
            Some(ProbeChange::Recover(recovered))
        } else {
            (self.slow.is_some() && !was_slow).then_some(ProbeChange::Slow)
        }
    }

    fn note_duration(&mut self, report: &ProbeReport) {
        let Some(limit) = self.slow_above.filter(|&limit| report.duration > limit) else {
            self.quick_in_a_row = self.quick_in_a_row.saturating_add(1);
            if !self.counts_as_slow() || self.quick_in_a_row >= QUICK_AGAIN {
                self.slow = None;
                self.slow_in_a_row = 0;
            }
            return;
        };
        if self.slow_in_a_row == 0 {
            self.first_slow = report.at;
        }
        self.quick_in_a_row = 0;
        self.slow_in_a_row = self.slow_in_a_row.saturating_add(1);
        self.slow = Some(format!(
            "{} answered in {} ms, above its limit of {} ms",
            report.target,
            report.duration.as_millis(),
            limit.as_millis()
        ));
    }

    /// Whether it has been slow for long enough.
    fn counts_as_slow(&self) -> bool {
        self.slow_in_a_row >= self.failures
    }
}

impl Service {
    /// A probe ended.
    pub(in crate::engine) fn probed<E: Effects>(&mut self, report: ProbeReport, ctx: &mut Ctx<'_, E>) {
        let counts = ctx.now >= self.grace_until
            && matches!(self.recovery, RecoveryState::Idle | RecoveryState::Verifying);
        let Some(probe) = self.probes.get_mut(report.index) else { return };
        let begun = report.begun();
        if begun < probe.since {
            return;
        }
        probe.took = Some(report.duration);
        match &report.outcome {
            ProbeOutcome::Ok => {
                // Another socket serves the same port, if it was asked after the listener went.
                self.lost_listener = self.lost_listener.filter(|(since, ..)| begun <= *since);
                let change = probe.succeeded(&report);
                let slow = probe.slow.clone().filter(|_| probe.counts_as_slow());
                let since = probe.first_slow;
                let event =
                    change.map(|change| ctx.effects.publish(Fact::Probe(report.clone(), change), report.at));
                self.examination = None;
                if let Some(slow) = slow.filter(|_| counts) {
                    self.is_slow(slow, since, event, ctx);
                }
            }
            ProbeOutcome::Starting(detail) => {
                probe.begin_anew(probe.since);
                probe.starting = Some(detail.clone());
            }
            ProbeOutcome::Failed(failure, detail) => {
                probe.ok = false;
                probe.starting = None;
                if let Some(server) = &report.server {
                    self.holders.clone_from(&server.holders);
                }
                if counts {
                    let (failure, detail) = (*failure, detail.clone());
                    self.probe_failed(report, failure, detail, ctx);
                }
            }
        }
    }

    /// It answers, later than it should, for long enough.
    fn is_slow<E: Effects>(
        &mut self,
        slow: String,
        since: Timestamp,
        event: Option<EventId>,
        ctx: &mut Ctx<'_, E>,
    ) {
        let pressed = ctx.surroundings.pressed.clone().or_else(|| ctx.surroundings.together.clone());
        // What the host's pressure explained is the service's own once that is over.
        let open = self.incident.as_ref().map(|open| open.incident.verdict);
        if open.is_some_and(|verdict| verdict != Verdict::Overloaded || pressed.is_some()) {
            return;
        }
        let (verdict, summary, remedy) = match pressed {
            Some(why) => {
                let remedy = Remedy::Hold(format!("it would take more of what is short: {why}"));
                (Verdict::Overloaded, format!("{why}; {slow}"), remedy)
            }
            None => (Verdict::Slow, slow, Remedy::Nothing),
        };
        let finding = verdict::Finding { verdict, confidence: 0.9, summary };
        let evidence = event.into_iter().collect();
        let fault = Fault { since, evidence, remedy, degraded: true, ..Fault::now(ctx.now, finding) };
        self.fail(fault, ctx);
    }

    /// A failure that counts.
    fn probe_failed<E: Effects>(
        &mut self,
        report: ProbeReport,
        failure: ProbeFailure,
        detail: String,
        ctx: &mut Ctx<'_, E>,
    ) {
        let (at, begun, index, stopped) = (report.at, report.begun(), report.index, self.unit_is_stopped());
        let Some(probe) = self.probes.get_mut(index) else { return };
        let first = probe.in_a_row == 0;
        if first {
            probe.first_failed = at;
        } else if !ctx.surroundings.alone && begun < probe.last_failed {
            // What else is silent is asked as well, and takes its time to be known: attempts side by side are one.
            return;
        }
        probe.last_failed = at;
        probe.in_a_row = probe.in_a_row.saturating_add(1);
        probe.told = probe.told.saturating_add(1);
        probe.timed_out = failure.is_timeout();
        let event = ctx.effects.publish(Fact::Probe(report, ProbeChange::Fail(probe.in_a_row)), at);
        if probe.evidence.len() < MAX_FAILURES_KEPT {
            probe.evidence.push(event);
        }
        let (in_a_row, failures, timed_out) = (probe.in_a_row, probe.failures, probe.timed_out);
        let ahead = verdict::look_ahead(probe.timeout, begun, at);
        if first {
            // By the time that its failures count, it is to be known whether they are its own.
            self.examination = None;
            for dependency in ctx.surroundings.dependencies.clone() {
                ctx.request(Effect::ProbeNow(dependency));
            }
        }
        if timed_out {
            self.examine(Examination::OVER, Some(ahead), ctx);
        }
        // A process that does nothing at all need not be asked so often.
        let idle = timed_out && self.examination.as_ref().is_some_and(Examination::idled);
        let needed = if idle { failures.min(2) } else { failures };
        if in_a_row >= needed && self.is_to_be_judged() && !stopped {
            self.judge(Pending { index, failure, detail }, ctx);
        }
    }

    /// Whether a row of failures says something new: an open incident is judged again only where a restart was
    /// meant to mend it and did not, or where what held the restart may be over.
    fn is_to_be_judged(&self) -> bool {
        match &self.incident {
            None => true,
            Some(open) => {
                matches!(self.recovery, RecoveryState::Verifying)
                    || (self.beyond_restart || open.rule().judged_again)
                        && matches!(self.recovery, RecoveryState::Idle)
            }
        }
    }
}
