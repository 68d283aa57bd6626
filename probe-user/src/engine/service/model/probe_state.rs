//! The state of one probe.

use std::time::Duration;

use super::server_breach::ServerBreach;
use crate::{
    clock::Timestamp,
    engine::rules::{self, Mend},
    fact::{EventId, ProbeChange, ProbeFailure, ProbeOutcome, ProbeReport, ProbeSettings},
};

/// So many fast answers in a row end a slowness that counted.
const QUICK_AGAIN: u32 = 2;

/// The most failures of a row that serve as evidence.
const MAX_EVIDENCE: usize = 16;

#[derive(Debug)]
pub struct ProbeState {
    /// What it asks, as a number. 0 if unknown.
    question: u64,
    /// The number of failures, or slow answers, in a row that counts.
    failures: u32,
    timeout: Duration,
    port: Option<u16>,
    slow_above: Option<Duration>,
    has_one_loop: bool,
    server: ServerBreach,
    /// The duration of the latest answer.
    took: Option<Duration>,
    /// Failures published since the last success, also across restarts.
    published: u32,
    /// The service has answered it rightly since the configuration was loaded, or with its own report of a start. So has a
    /// process that answered it to an earlier run of the daemon.
    answered: bool,
    /// Since when the answers are not right, also across restarts.
    wrong_since: Option<Timestamp>,
    found: Found,
}

/// Results since the service's latest start.
#[derive(Debug, Default)]
struct Found {
    /// Earlier runs belong to an earlier process.
    since: Timestamp,
    /// The process has answered rightly, maybe to an earlier run of the daemon.
    answered: bool,
    /// The latest answer was right.
    ok: bool,
    /// When the latest right answer came.
    ok_at: Timestamp,
    /// Since when the answers are right.
    well_at: Option<Timestamp>,
    /// The service's own report that it is starting.
    starting: Option<String>,
    starting_since: Timestamp,
    failure: Option<ProbeFailure>,
    slowness: Slowness,
    remark: Option<Remark>,
    failing: FailureRow,
}

/// What is wrong although the latest answer is right.
#[derive(Debug)]
struct Remark {
    words: String,
    first: Timestamp,
    in_a_row: u32,
}

#[derive(Debug, Default)]
struct Slowness {
    /// The latest answer is right but slow; the reason for people.
    words: Option<String>,
    /// Slow answers in a row.
    slow_in_a_row: u32,
    first: Timestamp,
    /// Answers within the limit after the slow ones.
    quick_in_a_row: u32,
}

/// A row of failures that count.
#[derive(Debug, Default)]
struct FailureRow {
    count: u32,
    /// Failures in a row that a restart may mend. Those that the daemon itself was late for are no part of it.
    mendable: u32,
    /// How late the daemon itself was for the latest one, for people.
    late: Option<String>,
    /// Timeouts of attempts that ran beside a counted one.
    beside: u32,
    first: Timestamp,
    last: Timestamp,
    timed_out: bool,
    evidence: Vec<EventId>,
}

impl ProbeState {
    pub fn new(given: &ProbeSettings) -> Self {
        Self {
            question: given.question,
            failures: given.failures.max(1),
            timeout: given.timeout,
            port: given.port,
            slow_above: given.slow,
            has_one_loop: given.has_one_loop,
            server: ServerBreach::new(given.server),
            took: None,
            published: 0,
            answered: false,
            wrong_since: Some(Timestamp::default()),
            found: Found::default(),
        }
    }

    /// A probe of a service that was watched before. Runs that began earlier are those of another probe.
    pub fn begun(given: &ProbeSettings, now: Timestamp) -> Self {
        Self { found: Found { since: now, ..Found::default() }, ..Self::new(given) }
    }

    /// Drops the results of an earlier process.
    pub fn reset(&mut self, now: Timestamp) {
        self.wrong_since.get_or_insert(now);
        self.found = Found { since: now, ..Found::default() };
    }

    /// Results before a fault prove nothing after it.
    pub fn distrust_before(&mut self, since: Timestamp) {
        self.wrong_since.get_or_insert(since);
        self.found.since = since;
        self.found.ok = false;
        self.found.well_at = None;
    }

    /// True if the run belongs to the present process.
    pub fn note_run(&mut self, report: &ProbeReport) -> bool {
        let is_present = report.begun() >= self.found.since;
        if is_present {
            self.took = Some(report.duration);
        }
        is_present
    }

    /// The report of a right answer whose numbers are beyond the limits is one of a failure.
    pub fn judge_numbers(&mut self, mut report: ProbeReport) -> ProbeReport {
        if let (ProbeOutcome::Ok, Some(server)) = (&report.outcome, &report.server)
            && let Some((failure, words)) = self.server.judge(server)
        {
            report.outcome = ProbeOutcome::Failed(failure, format!("{} {words}", report.target));
        }
        report
    }

    pub fn succeed(&mut self, report: &ProbeReport) -> Option<ProbeChange> {
        if !self.found.ok {
            self.found.well_at = Some(report.at);
        }
        self.answered = true;
        self.found.answered = true;
        self.wrong_since = None;
        self.found.ok = true;
        self.found.ok_at = report.at;
        self.found.starting = None;
        self.found.failure = None;
        self.found.failing = FailureRow::default();
        let recovered = std::mem::take(&mut self.published);
        let (was_slow, had_remark) = (self.found.slowness.words.is_some(), self.found.remark.is_some());
        self.note_duration(report);
        self.note_remark(report);
        if recovered > 0 {
            return Some(ProbeChange::Recover(recovered));
        }
        let is_slow = self.found.slowness.words.is_some() && !was_slow;
        (is_slow || self.found.remark.is_some() && !had_remark).then_some(ProbeChange::Slow)
    }

    fn note_remark(&mut self, report: &ProbeReport) {
        let before = self.found.remark.take();
        self.found.remark = report.remark.clone().map(|words| Remark {
            words,
            first: before.as_ref().map_or(report.at, |before| before.first),
            in_a_row: before.map_or(1, |before| before.in_a_row.saturating_add(1)),
        });
    }

    fn note_duration(&mut self, report: &ProbeReport) {
        let counts = self.found.slowness.slow_in_a_row >= self.failures;
        let slowness = &mut self.found.slowness;
        let Some(limit) = self.slow_above.filter(|&limit| report.duration > limit) else {
            slowness.quick_in_a_row = slowness.quick_in_a_row.saturating_add(1);
            if !counts || slowness.quick_in_a_row >= QUICK_AGAIN {
                *slowness = Slowness::default();
            }
            return;
        };
        if slowness.slow_in_a_row == 0 {
            slowness.first = report.at;
        }
        slowness.quick_in_a_row = 0;
        slowness.slow_in_a_row = slowness.slow_in_a_row.saturating_add(1);
        slowness.words = Some(format!(
            "{} answered in {} ms, above its limit of {} ms",
            report.target,
            report.duration.as_millis(),
            limit.as_millis()
        ));
    }

    /// The service reports that it is starting, so earlier results belong to its previous start.
    /// Returns since when.
    pub fn start(&mut self, detail: String, at: Timestamp) -> Timestamp {
        let since = self.found.starting.as_ref().map_or(at, |_| self.found.starting_since);
        self.answered = true;
        self.wrong_since.get_or_insert(at);
        self.reset(self.found.since);
        self.found.starting = Some(detail);
        self.found.starting_since = since;
        since
    }

    /// Notes a failure, which may or may not count.
    pub fn fail(&mut self, failure: ProbeFailure, at: Timestamp) {
        self.wrong_since.get_or_insert(at);
        self.found.failure = Some(failure);
        self.found.ok = false;
        self.found.starting = None;
    }

    /// An attempt that did not reach the service is published, and counts for nothing.
    pub fn publish_unasked(&mut self) -> u32 {
        self.published = self.published.saturating_add(1);
        self.published
    }

    /// Counts a failure; the number of failures in a row.
    /// `late`: how late the daemon itself was, for people, if the failure may be its own.
    pub fn count_failure(&mut self, at: Timestamp, failure: ProbeFailure, late: Option<String>) -> u32 {
        let row = &mut self.found.failing;
        if row.count == 0 {
            row.first = at;
        }
        row.last = at;
        row.count = row.count.saturating_add(1);
        row.timed_out = failure.is_timeout();
        row.mendable = match (is_mendable(failure), &late) {
            (true, None) => row.mendable.saturating_add(1),
            (true, Some(_)) => row.mendable,
            (false, _) => 0,
        };
        row.late = late;
        self.published = self.published.saturating_add(1);
        row.count
    }

    /// Notes a timeout of an attempt that ran beside a counted one.
    pub fn note_timeout_beside(&mut self) {
        self.found.failing.beside = self.found.failing.beside.saturating_add(1);
    }

    /// The number of attempts in a row whose failure a restart may mend, also of those that ran side by side.
    pub fn failed_attempts(&self) -> u32 {
        self.found.failing.mendable.saturating_add(self.found.failing.beside)
    }

    pub fn add_evidence(&mut self, event: EventId) {
        if self.found.failing.evidence.len() < MAX_EVIDENCE {
            self.found.failing.evidence.push(event);
        }
    }

    pub fn take_evidence(&mut self) -> Vec<EventId> {
        std::mem::take(&mut self.found.failing.evidence)
    }

    /// The number of failures in a row that counts.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The TCP port that it connects to.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    pub fn has_one_loop(&self) -> bool {
        self.has_one_loop
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    pub fn took(&self) -> Option<Duration> {
        self.took
    }

    /// Whether its address and its protocol have proved right.
    pub fn has_been_answered(&self) -> bool {
        self.answered
    }

    /// Whether an earlier process has answered it, and the present one has not yet.
    pub fn was_answered_by_another_process(&self) -> bool {
        self.answered && !self.found.answered
    }

    /// What the present process has answered rightly, if that can be told to a later run of the daemon.
    pub fn answered_question(&self) -> Option<u64> {
        (self.found.answered && self.question != 0).then_some(self.question)
    }

    /// The present process has answered these to an earlier run of the daemon.
    pub fn recall(&mut self, questions: &[u64]) {
        if self.question != 0 && questions.contains(&self.question) {
            self.answered = true;
            self.found.answered = true;
        }
    }

    /// Since when the service has not answered it rightly.
    pub fn wrong_since(&self) -> Timestamp {
        self.wrong_since.map_or(self.found.failing.first, |since| since.min(self.found.failing.first))
    }

    pub fn is_ok(&self) -> bool {
        self.found.ok
    }

    /// Whether nothing has come since a run began, and all was well before.
    pub fn is_silent_since(&self, begun: Timestamp) -> bool {
        self.found.ok && self.found.ok_at <= begun && self.found.since <= begun
    }

    pub fn well_at(&self) -> Option<Timestamp> {
        self.found.well_at
    }

    pub fn starting(&self) -> Option<&str> {
        self.found.starting.as_deref()
    }

    /// The latest answer is right but slow; the reason for people.
    pub fn slow(&self) -> Option<&str> {
        self.found.slowness.words.as_deref()
    }

    /// The answers have been slow for long enough; the reason for people, and since when.
    pub fn counts_as_slow(&self) -> Option<(String, Timestamp)> {
        let slowness = &self.found.slowness;
        let words = slowness.words.clone().filter(|_| slowness.slow_in_a_row >= self.failures)?;
        Some((words, slowness.first))
    }

    /// What is wrong although the latest answer is right.
    pub fn remark(&self) -> Option<&str> {
        self.found.remark.as_ref().map(|remark| remark.words.as_str())
    }

    /// As [`ProbeState::remark`], once it has been so for long enough, and since when.
    pub fn remark_that_counts(&self) -> Option<(String, Timestamp)> {
        let remark = self.found.remark.as_ref().filter(|remark| remark.in_a_row >= self.failures)?;
        Some((remark.words.clone(), remark.first))
    }

    /// Its latest failure, unless it has succeeded since.
    pub fn failure(&self) -> Option<ProbeFailure> {
        self.found.failure
    }

    /// Whether its failures have begun to count.
    pub fn is_failing(&self) -> bool {
        self.found.failing.count > 0
    }

    /// The number of failures in a row that count as this one does: the service has refused nothing, and asked for no time,
    /// since the first failure that a restart may mend. All of them, if the daemon itself was late for this one: it leads to no
    /// restart.
    pub fn failed_in_a_row(&self, failure: ProbeFailure) -> u32 {
        let FailureRow { count, mendable, .. } = self.found.failing;
        if is_mendable(failure) && self.late().is_none() { mendable } else { count }
    }

    /// How late the daemon itself was for its latest failure, for people.
    pub fn late(&self) -> Option<&str> {
        self.found.failing.late.as_deref()
    }

    pub fn first_failed(&self) -> Timestamp {
        self.found.failing.first
    }

    pub fn last_failed(&self) -> Timestamp {
        self.found.failing.last
    }

    /// The latest failure of the row was a timeout.
    pub fn timed_out(&self) -> bool {
        self.found.failing.timed_out
    }
}

fn is_mendable(failure: ProbeFailure) -> bool {
    rules::of_failure(failure).mend == Mend::Restart
}
