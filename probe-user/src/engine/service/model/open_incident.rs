//! An open incident.

use std::time::Duration;

use super::{dead_workers::MAX_EVIDENCE, fault::Fault};
use crate::{
    clock::Timestamp,
    engine::{
        rules::{self, Rule},
        verdict::Finding,
    },
    fact::{
        Earlier, EventId, FaultContext, HangStacks, Incident, IncidentId, Order, RememberedIncident,
        ServiceId, Severity, Summary, Timing, Verdict,
    },
};

/// The most services that an incident names as held.
const MAX_HELD: usize = 64;

#[derive(Debug)]
pub struct OpenIncident {
    /// Everything but the summary, which [`Self::published`] renders.
    record: Incident,
    summary: Summary,
    alerted: bool,
    /// The verdict that the hooks were called with.
    called: Option<Verdict>,
    degraded: bool,
    /// An alert is due, and an operator's order holds it back.
    muted: bool,
    /// The operator knows of it, and it alerts no more.
    acknowledged: Option<Order>,
    /// Another process had its port. Only its own listener shows that it has the port again.
    needs_listener: bool,
    /// Its alert is due once the context of the fault is there.
    awaits_context: bool,
    /// An incident of an earlier run does not end before this.
    unconfirmed_until: Timestamp,
}

impl OpenIncident {
    /// Takes up an incident of an earlier run of the daemon.
    pub fn of_earlier_run(remembered: RememberedIncident) -> Self {
        let RememberedIncident { incident, summary, alerted, called, degraded, muted, acknowledged, .. } =
            remembered;
        Self {
            record: incident,
            summary,
            alerted,
            called,
            degraded,
            muted,
            acknowledged,
            needs_listener: remembered.needs_listener,
            awaits_context: false,
            unconfirmed_until: Timestamp::default(),
        }
    }

    /// It as a later run of the daemon may need it. Its alert is due at `alert_at`.
    pub fn remembered(&self, alert_at: Option<Timestamp>) -> RememberedIncident {
        RememberedIncident {
            incident: self.record.clone(),
            summary: self.summary.clone(),
            alerted: self.alerted,
            called: self.called,
            degraded: self.degraded,
            muted: self.muted,
            acknowledged: self.acknowledged.clone(),
            needs_listener: self.needs_listener,
            alert_at,
        }
    }

    pub fn unconfirmed_until(&self) -> Timestamp {
        self.unconfirmed_until
    }

    /// Another one turns out to be the cause: why, and its own summary.
    pub fn blame(&mut self, cause: ServiceId, why: String, summary: String) {
        self.record.cause = cause;
        self.summary = self.summary.of_itself().caused_by(why, summary);
    }

    pub fn set_unconfirmed_until(&mut self, until: Timestamp) {
        self.unconfirmed_until = until;
    }

    /// With the operator whose drill caused it, if one did.
    pub fn new(
        (id, drill): (IncidentId, Option<String>),
        service: ServiceId,
        fault: Fault,
        severity: Severity,
        now: Timestamp,
    ) -> Self {
        let record = Incident {
            id,
            service,
            verdict: fault.finding.verdict,
            confidence: fault.finding.confidence,
            summary: String::new(),
            severity,
            cause: fault.cause.unwrap_or(service),
            evidence: fault.evidence,
            held: Vec::new(),
            since: fault.since,
            timing: Timing::default(),
            attempts: 0,
            snapshot: None,
            context: FaultContext { actor: fault.actor, ..FaultContext::default() },
            drill,
            host: None,
            earlier: Earlier { evidence: fault.foreign_evidence, ..Earlier::default() },
        };
        let summary = fault.finding.summary;
        let mut open = Self {
            record,
            summary,
            alerted: false,
            called: None,
            degraded: fault.degraded,
            muted: false,
            acknowledged: None,
            needs_listener: false,
            awaits_context: false,
            unconfirmed_until: Timestamp::default(),
        };
        open.begin(fault.since, fault.detected, now);
        open
    }

    /// Counts its times from a fault.
    fn begin(&mut self, since: Timestamp, detected: Timestamp, now: Timestamp) {
        self.record.since = since;
        self.record.earlier.before_boot = Duration::ZERO;
        self.record.timing = Timing::default();
        self.record.timing.detected = self.after(detected);
        self.record.timing.decided = self.after(now);
    }

    /// Adds a fault. True if the incident has become worse.
    pub fn update(&mut self, fault: Fault, severity: Severity, now: Timestamp) -> bool {
        let fails = self.degraded && !fault.degraded;
        if fails && self.record.attempts == 0 {
            // The times count from the failure, not from the degradation before it.
            self.begin(fault.since, fault.detected, now);
        }
        let is_worse = fails || severity > self.record.severity;
        self.record.verdict = fault.finding.verdict;
        self.record.confidence = fault.finding.confidence;
        self.summary = fault.finding.summary;
        self.record.severity = severity;
        self.record.cause = fault.cause.unwrap_or(self.record.service);
        self.record.timing.listening = None;
        self.degraded = fault.degraded;
        self.record.context.actor = fault.actor.or(self.record.context.actor.take());
        self.add_evidence(fault.evidence);
        let earlier = &mut self.record.earlier.evidence;
        let room = MAX_EVIDENCE.saturating_sub(earlier.len());
        let new: Vec<_> = fault.foreign_evidence.into_iter().filter(|it| !earlier.contains(it)).collect();
        earlier.extend(new.into_iter().take(room));
        is_worse
    }

    pub fn become_crash_loop(&mut self, why: &str, severity: Severity) {
        self.summary.set_crash_loop(why.to_owned());
        self.record.verdict = Verdict::CrashLoop;
        self.record.severity = severity;
    }

    /// The incident as events and alerts carry it.
    pub fn published(&self) -> Incident {
        let drill = self.record.drill.as_ref().map_or_else(String::new, |by| format!("a drill by {by}: "));
        Incident { summary: format!("{drill}{}", self.summary), ..self.record.clone() }
    }

    pub fn id(&self) -> IncidentId {
        self.record.id
    }

    pub fn rule(&self) -> Rule {
        rules::of(self.record.verdict)
    }

    pub fn verdict(&self) -> Verdict {
        self.record.verdict
    }

    /// The latest finding.
    pub fn finding(&self) -> Finding {
        let Incident { verdict, confidence, .. } = self.record;
        Finding { verdict, confidence, summary: self.summary.clone() }
    }

    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    pub fn set_summary(&mut self, summary: Summary) {
        self.summary = summary;
    }

    pub fn add_detail(&mut self, detail: String) {
        self.summary.add(detail);
    }

    pub fn set_request(&mut self, why: &str) {
        self.summary.set_request(why);
    }

    pub fn set_holders(&mut self, holders: Vec<String>) {
        self.summary.set_holders(holders);
    }

    pub fn since(&self) -> Timestamp {
        self.record.since
    }

    pub fn cause(&self) -> ServiceId {
        self.record.cause
    }

    pub fn attempts(&self) -> u32 {
        self.record.attempts
    }

    pub fn has_snapshot(&self) -> bool {
        self.record.snapshot.is_some()
    }

    pub fn set_snapshot(&mut self, file: String) {
        self.record.snapshot = Some(file);
    }

    /// Sets the context. The stacks come on a way of their own. What a later look does not find stays as it was.
    pub fn set_context(&mut self, context: FaultContext) {
        let FaultContext { logs, changes, changed_at, stacks, crash, culprit, actor } =
            std::mem::take(&mut self.record.context);
        let no_changes = context.changes.is_empty();
        self.record.context = FaultContext {
            logs: if context.logs.is_empty() { logs } else { context.logs },
            changes: if no_changes { changes } else { context.changes },
            changed_at: if no_changes { changed_at } else { context.changed_at },
            stacks: context.stacks.or(stacks),
            crash: context.crash.or(crash),
            culprit: context.culprit.or(culprit),
            actor: context.actor.or(actor),
        };
    }

    pub fn set_stacks(&mut self, stacks: HangStacks) {
        self.record.context.stacks = Some(Box::new(stacks));
    }

    pub fn set_awaits_context(&mut self) {
        self.awaits_context = true;
    }

    /// Whether its alert waited for the context, which it does no longer.
    pub fn take_awaits_context(&mut self) -> bool {
        std::mem::take(&mut self.awaits_context)
    }

    /// Adds evidence up to the limit.
    pub fn add_evidence(&mut self, events: Vec<EventId>) {
        let room = MAX_EVIDENCE.saturating_sub(self.record.evidence.len());
        let known = self.record.evidence.clone();
        self.record.evidence.extend(events.into_iter().filter(|event| !known.contains(event)).take(room));
    }

    /// Names a service that is held because of this incident. True if it is new.
    pub fn hold(&mut self, held: ServiceId) -> bool {
        let is_new = !self.record.held.contains(&held) && self.record.held.len() < MAX_HELD;
        if is_new {
            self.record.held.push(held);
        }
        is_new
    }

    pub fn is_degraded(&self) -> bool {
        self.degraded
    }

    pub fn alerted(&self) -> bool {
        self.alerted
    }

    pub fn set_alerted(&mut self) {
        self.alerted = true;
        self.muted = false;
    }

    /// Notes that the hooks are called. False if they know this verdict.
    pub fn set_called(&mut self) -> bool {
        self.called.replace(self.record.verdict) != Some(self.record.verdict)
    }

    pub fn is_of_earlier_run(&self) -> bool {
        self.record.id.run.is_some()
    }

    pub fn was_called(&self) -> bool {
        self.called.is_some()
    }

    /// Whether an alert is held back.
    pub fn is_muted(&self) -> bool {
        self.muted
    }

    /// Holds its alert back. True if none was held back before.
    pub fn mute(&mut self) -> bool {
        !std::mem::replace(&mut self.muted, true)
    }

    pub fn acknowledged(&self) -> Option<&Order> {
        self.acknowledged.as_ref()
    }

    pub fn set_acknowledged(&mut self, order: Option<Order>) {
        self.acknowledged = order;
    }

    pub fn severity(&self) -> Severity {
        self.record.severity
    }

    /// An incident that ended before its alert is informational, unless other services were held because of it.
    pub fn downgrade(&mut self) {
        if self.record.held.is_empty() {
            self.record.severity = Severity::Info;
        }
    }

    pub fn needs_listener(&self) -> bool {
        self.needs_listener
    }

    pub fn set_needs_listener(&mut self) {
        self.needs_listener = true;
    }

    pub fn note_restart(&mut self, at: Timestamp) {
        self.record.attempts += 1;
        self.record.timing.acted = self.record.timing.acted.or(self.after(at));
    }

    pub fn listening(&mut self, at: Timestamp) {
        self.record.timing.listening = self.after(at);
    }

    pub fn healthy(&mut self, at: Timestamp) {
        self.record.timing.healthy = self.after(at);
    }

    /// The time since the fault.
    fn after(&self, at: Timestamp) -> Option<Duration> {
        Some(at.since(self.record.since).saturating_add(self.record.earlier.before_boot))
    }
}
