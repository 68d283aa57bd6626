//! The incident of a service: opened, brought up to date, resolved, and alerted at the right moment.

use std::time::Duration;

use super::{Fault, RecoveryState, Remedy, Service};
use crate::{
    clock::Timestamp,
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        rules::{self, AlertRule, Extra, Rule, SeverityRule},
    },
    fact::{EventId, Fact, Incident, Phase, Severity, Timing, Verdict},
};

/// How long an incident that is being acted on may last before somebody is told: one that a restart heals
/// sooner is for the record only.
const ALERT_PATIENCE: Duration = Duration::from_secs(10);

/// How long the names of those who hold a database's connections may take, for the alert to say them.
const HOLDERS_PATIENCE: Duration = Duration::from_secs(1);

/// The most events an incident keeps as evidence; the first and the latest tell the story.
pub(super) const MAX_EVIDENCE: usize = 64;

/// An incident that is open.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) incident: Incident,
    /// When somebody is to be told, unless it is over by then.
    pub(super) alert_at: Option<Timestamp>,
    pub(super) alerted: bool,
    /// It works, if not as it should.
    pub(super) degraded: bool,
    /// Somebody else has had its port: only its own listener shows that it has it again.
    pub(super) needs_listener: bool,
}

impl Open {
    /// What follows from its verdict.
    pub(super) fn rule(&self) -> Rule {
        rules::of(self.incident.verdict)
    }

    /// Takes in more evidence, as far as there is room.
    pub(super) fn add_evidence(&mut self, events: Vec<EventId>) {
        let room = MAX_EVIDENCE.saturating_sub(self.incident.evidence.len());
        self.incident.evidence.extend(events.into_iter().take(room));
    }

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
    pub(super) fn fail<E: Effects>(&mut self, fault: Fault, ctx: &mut Ctx<'_, E>) {
        if fault.young {
            return self.find_port_holder(fault, ctx);
        }
        // One that cannot be started without its dependency is started when that is back.
        let awaits = rules::of(fault.finding.verdict).extra == Extra::AwaitsDependencies;
        let fault = if awaits { self.blamed(fault, ctx) } else { fault };
        let remedy = fault.remedy.clone();
        let not_yet =
            rules::of(fault.finding.verdict).extra == Extra::AwaitsDependencies && self.awaits_another(ctx);
        self.open_or_update(fault, ctx);
        if let (Some(open), true) = (&mut self.incident, self.port_taken) {
            open.needs_listener = true;
        }
        if not_yet {
            self.wait_for_another(ctx);
        } else {
            self.decide(remedy, ctx);
        }
        self.port_taken = false;
        if self.incident.as_ref().is_some_and(|open| open.rule().extra == Extra::Holders) {
            self.seek_holders(ctx);
        }
    }

    /// Opens an incident for a fault, or adds the fault to the one that is open.
    pub(super) fn open_or_update<E: Effects>(&mut self, fault: Fault, ctx: &mut Ctx<'_, E>) {
        let severity = self.severity(fault.finding.verdict);
        let cause = fault.cause.unwrap_or(self.id);
        let patience = patience(&fault);
        self.healing_until = None;
        self.lost_listener = None;
        self.settles_at = self.probes.is_empty().then(|| ctx.now.plus(self.settling()));
        for probe in &mut self.probes {
            probe.doubt(fault.since);
        }
        match &mut self.incident {
            None => {
                let incident = Incident {
                    id: ctx.next_incident(),
                    service: self.id,
                    verdict: fault.finding.verdict,
                    confidence: fault.finding.confidence,
                    summary: fault.finding.summary,
                    severity,
                    cause,
                    evidence: fault.evidence,
                    held: Vec::new(),
                    since: fault.since,
                    timing: Timing::default(),
                    attempts: 0,
                    snapshot: None,
                };
                let alert_at = patience.map(|patience| ctx.now.plus(patience));
                let mut open = Open {
                    incident,
                    alert_at,
                    alerted: false,
                    degraded: fault.degraded,
                    needs_listener: false,
                };
                open.incident.timing.detected = open.step(fault.detected);
                open.incident.timing.decided = open.step(ctx.now);
                ctx.publish(Fact::Incident(Phase::Open, open.incident.clone()));
                self.incident = Some(open);
            }
            Some(open) => {
                let fails = open.degraded && !fault.degraded;
                if fails && open.incident.attempts == 0 {
                    // It was unwell for however long: the times are those of what has now befallen it.
                    open.incident.since = fault.since;
                    open.incident.timing = Timing::default();
                    open.incident.timing.detected = open.step(fault.detected);
                    open.incident.timing.decided = open.step(ctx.now);
                }
                let worse = fails || severity > open.incident.severity;
                if !open.alerted || worse || patience.is_none() {
                    // A stop is nobody's alarm; what fails after it is.
                    let due = |patience| ctx.now.plus(patience);
                    open.alert_at = patience.map(|it| open.alert_at.unwrap_or(due(it)).min(due(it)));
                }
                open.incident.verdict = fault.finding.verdict;
                open.incident.confidence = fault.finding.confidence;
                open.incident.summary = fault.finding.summary;
                open.incident.severity = severity;
                open.incident.cause = cause;
                open.incident.timing.listening = None;
                open.degraded = fault.degraded;
                open.add_evidence(fault.evidence);
                ctx.publish(Fact::Incident(Phase::Update, open.incident.clone()));
            }
        }
        self.alert_if_due(ctx);
    }

    /// The open incident has become a crash loop.
    pub(super) fn loops<E: Effects>(&mut self, why: &str, ctx: &mut Ctx<'_, E>) {
        let severity = self.severity(Verdict::CrashLoop);
        let Some(open) = &mut self.incident else { return };
        let last = std::mem::take(&mut open.incident.summary);
        let last = last.split("; last: ").last().unwrap_or_default();
        open.incident.summary = format!("it fails again and again: {why}; last: {last}");
        open.incident.verdict = Verdict::CrashLoop;
        open.incident.severity = severity;
        ctx.publish(Fact::Incident(Phase::Update, open.incident.clone()));
        self.alert_now(ctx);
    }

    /// The service has proved well: the incident is over.
    pub(super) fn resolve<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let Some(mut open) = self.incident.take() else { return };
        self.recovery = RecoveryState::Idle;
        self.healing_until = None;
        self.dead_workers = 0;
        self.holders.clear();
        let answered = self.probes.iter().filter_map(|probe| probe.well_at).max();
        let healthy = answered.filter(|_| open.rule().ends.is_answer()).unwrap_or(ctx.now);
        open.incident.timing.healthy = open.step(healthy);
        // Nobody is alarmed by a stop, and what has a cause elsewhere is told with that.
        let quiet = open.rule().alert.is_silent();
        if !open.alerted {
            if open.incident.held.is_empty() {
                open.incident.severity = Severity::Info;
            }
            if !quiet {
                ctx.request(Effect::Alert { incident: open.incident.clone(), resolved: false });
            }
        }
        ctx.publish(Fact::Incident(Phase::Resolve, open.incident.clone()));
        if open.alerted || !quiet {
            ctx.request(Effect::Alert { incident: open.incident, resolved: true });
        }
    }

    /// Tells the receivers, if the incident has lasted long enough.
    pub(super) fn alert_if_due<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if self.incident.as_ref().and_then(|open| open.alert_at).is_some_and(|at| at <= ctx.now) {
            self.alert_now(ctx);
        }
    }

    /// Tells the receivers of the incident as it stands.
    pub(super) fn alert_now<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let Some(open) = &mut self.incident else { return };
        open.alert_at = None;
        open.alerted = true;
        ctx.request(Effect::Alert { incident: open.incident.clone(), resolved: false });
    }

    fn severity(&self, verdict: Verdict) -> Severity {
        match rules::of(verdict).severity {
            SeverityRule::Info => Severity::Info,
            SeverityRule::Warning => Severity::Warning,
            SeverityRule::OfService if !self.critical => Severity::Warning,
            SeverityRule::OfService | SeverityRule::Critical => Severity::Critical,
        }
    }
}

/// How long a fault may last before the receivers are alerted. None: they are not.
fn patience(fault: &Fault) -> Option<Duration> {
    match rules::of(fault.finding.verdict).alert {
        AlertRule::Never => None,
        AlertRule::AtOnce => Some(Duration::ZERO),
        AlertRule::Delayed => Some(ALERT_PATIENCE),
        AlertRule::WithCause => (!fault.untold).then_some(ALERT_PATIENCE),
        AlertRule::WithHolders => Some(if fault.untold { ALERT_PATIENCE } else { HOLDERS_PATIENCE }),
        AlertRule::AtOnceIfOwnFault => Some(if fault.urgent { Duration::ZERO } else { ALERT_PATIENCE }),
        AlertRule::DelayedIfRestarted | AlertRule::WhenBudgetIsSpent => {
            let held = matches!(fault.remedy, Remedy::Hold(_)) && !fault.degraded;
            Some(if held { Duration::ZERO } else { ALERT_PATIENCE })
        }
    }
}
