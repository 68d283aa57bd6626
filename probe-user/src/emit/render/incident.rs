//! Events about incidents, restarts and alerts.

use super::{Renderer, millis, room, rounded};
use crate::{
    emit::wire::{self, Level, Outcome, Record},
    fact::{
        Action, AlertOutcome, FaultContext, HangStacks, Incident, Phase, Restart, RestartMethod, Severity,
        StackGroup, SuppressedAlert, Timing,
    },
};

impl Renderer<'_> {
    /// An incident in full.
    pub(crate) fn incident(&self, incident: &Incident) -> wire::Incident {
        let items = self.fit(room::ITEMS);
        let latest = incident.evidence.len().saturating_sub(items);
        let evidence = incident.evidence[latest..].iter().map(|event| self.origin.event_id(*event));
        let earlier = &incident.earlier.evidence;
        let earlier = earlier.iter().take(items.saturating_sub(evidence.len()));
        wire::Incident {
            id: self.origin.incident_id(incident.id),
            verdict: Some(incident.verdict.into()),
            // Two decimals, because more would only show the error of a 32-bit float.
            confidence: Some((f64::from(incident.confidence) * 100.0).round() / 100.0),
            severity: Some(incident.severity.into()),
            summary: Some(self.text(&incident.summary, room::DETAIL)),
            cause: Some(wire::Cause { service: self.name(self.names.service(incident.cause)) }),
            evidence: Some(earlier.cloned().chain(evidence).collect()),
            held: Some(
                incident.held.iter().take(items).map(|held| self.name(self.names.service(*held))).collect(),
            ),
            since: Some(format!("{:.9}", incident.began())),
            attempts: Some(incident.attempts),
            timing: Some(timing(incident.timing)),
            snapshot: incident.snapshot.as_ref().map(|file| self.text(file, room::PATH)),
            drill: incident.drill.as_ref().map(|by| self.foreign_name(by)),
            ..self.context(&incident.context)
        }
    }

    /// What explains a fault, in an incident that has nothing else.
    pub(crate) fn context(&self, context: &FaultContext) -> wire::Incident {
        wire::Incident {
            logs: self.latest_lines(&context.logs),
            changes: self.lines(&context.changes),
            changed_at: self.times(&context.changed_at),
            stacks: context.stacks.as_ref().map(|stacks| self.stacks(stacks)),
            crash: context.crash.as_ref().map(|site| self.crash(site)),
            culprit: context.culprit.as_ref().map(|it| Box::new(self.culprit(it))),
            actor: context.actor.as_ref().map(|it| Box::new(self.actor(it))),
            ..wire::Incident::default()
        }
    }

    fn stacks(&self, stacks: &HangStacks) -> wire::Stacks {
        // A function may have any name.
        let frames = |group: &StackGroup| {
            let fitting = group.frames.iter().take(self.fit(room::FRAMES));
            fitting.map(|frame| self.text(frame, room::FRAME)).collect()
        };
        let group = |group: &StackGroup| wire::StackGroup {
            threads: group.threads,
            waits: self.text(&group.waits, room::FRAME),
            frames: frames(group),
        };
        wire::Stacks {
            summary: self.text(&stacks.summary, room::MESSAGE),
            groups: stacks.groups.iter().take(self.fit(room::STACKS)).map(group).collect(),
            missing: self.lines(&stacks.missing),
        }
    }

    /// As many of these lines as fit, from their end.
    fn latest_lines(&self, lines: &[String]) -> Option<Vec<String>> {
        self.lines(&lines[lines.len().saturating_sub(self.fit(room::ITEMS))..])
    }

    /// As many of these times as lines would fit; None if there are none.
    fn times(&self, times: &[i64]) -> Option<Vec<String>> {
        let fitting = times.iter().take(self.fit(room::ITEMS));
        let in_words = |us: &i64| {
            let at = jiff::Timestamp::from_microsecond(*us).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            format!("{at:.6}")
        };
        (!times.is_empty()).then(|| fitting.map(in_words).collect())
    }

    /// As many of these lines as fit; None if there are none.
    fn lines(&self, lines: &[String]) -> Option<Vec<String>> {
        let fitting = lines.iter().take(self.fit(room::ITEMS));
        (!lines.is_empty()).then(|| fitting.map(|line| self.text(line, room::MESSAGE)).collect())
    }

    pub(super) fn incident_event(&self, record: &mut Record, phase: Phase, incident: &Incident) {
        let service = self.names.service(incident.service);
        let verdict = incident.verdict.as_str();
        let level = match incident.severity {
            Severity::Info => Level::Info,
            Severity::Warning => Level::Warn,
            Severity::Critical => Level::Error,
        };
        let crash = incident.context.crash.as_ref().map(|site| format!("; it {}", site.words()));
        let crash = crash.unwrap_or_default();
        (record.event.outcome, record.log.level, record.message) = match phase {
            Phase::Open => (
                Outcome::Failure,
                level,
                format!("{service}: incident opened, {verdict}: {}", incident.summary),
            ),
            Phase::Update => (
                Outcome::Unknown,
                level,
                format!("{service}: incident updated, {verdict}: {}{crash}", incident.summary),
            ),
            Phase::Resolve => {
                let healed = incident.timing.healthy.or(incident.timing.listening);
                let after = healed.map(|took| format!(" after {}", rounded(took))).unwrap_or_default();
                (
                    Outcome::Success,
                    Level::Info,
                    format!("{service}: incident resolved{after}, {verdict}: {}", incident.summary),
                )
            }
        };
        record.service = Some(self.service(incident.service));
        record.host_check = incident.host.as_ref().map(|subject| self.host_check(subject));
        record.incident = Some(self.incident(incident));
    }

    pub(super) fn restart(&self, record: &mut Record, restart: &Restart) {
        let service = self.names.service(restart.service);
        let method = restart.method.as_str();
        let attempt = restart.attempt;
        record.message = match &restart.action {
            Action::Request => {
                format!("{service}: restart by {method} requested, attempt {attempt}: {}", restart.reason)
            }
            Action::Done => {
                record.event.outcome = Outcome::Success;
                format!("{service}: restarted by {method}, attempt {attempt}")
            }
            Action::Fail(why) => {
                record.event.outcome = Outcome::Failure;
                record.log.level = Level::Error;
                record.error = Some(self.error(why));
                format!("{service}: restart by {method} failed, attempt {attempt}: {why}")
            }
            Action::Hold(why) => {
                record.log.level = Level::Warn;
                record.event.reason = Some(self.text(why, room::DETAIL));
                format!("{service}: restart held: {why}")
            }
        };
        record.service = Some(self.service(restart.service));
        record.incident = restart.incident.map(|id| self.incident_id(id));
        record.event.provider = match (&restart.action, restart.method) {
            (Action::Request | Action::Hold(_), _) => wire::Provider::Engine,
            (Action::Done | Action::Fail(_), RestartMethod::Supervisor) => wire::Provider::Supervisor,
            (Action::Done | Action::Fail(_), RestartMethod::Systemd) => wire::Provider::Dbus,
            (Action::Done | Action::Fail(_), RestartMethod::Container) => wire::Provider::Container,
            (Action::Done | Action::Fail(_), RestartMethod::Command | RestartMethod::None) => {
                wire::Provider::Engine
            }
        };
        record.restart = Some(wire::Restart {
            method: restart.method.into(),
            attempt,
            reason: self.text(&restart.reason, room::DETAIL),
            budget_left: restart.budget_left,
        });
    }

    pub(super) fn alert(&self, record: &mut Record, outcome: &AlertOutcome) {
        let service = self.names.service(outcome.service);
        let what = if outcome.resolved { "resolved" } else { "firing" };
        let receiver = self.text(&outcome.receiver, room::NAME * 2);
        record.message = match &outcome.error {
            None => {
                record.event.outcome = Outcome::Success;
                format!("{service}: alert ({what}) delivered to {receiver}")
            }
            Some(why) => {
                record.event.outcome = Outcome::Failure;
                record.log.level = Level::Error;
                record.error = Some(self.error(why));
                format!("{service}: alert ({what}) not delivered to {receiver}: {why}")
            }
        };
        let incident = self.incident_id(outcome.incident);
        record.alert = Some(wire::Alert {
            receiver: Some(receiver),
            severity: outcome.severity.into(),
            status: wire::AlertStatus::of(outcome.resolved),
            attempts: outcome.attempts,
            dedup_key: incident.id.clone(),
        });
        record.service = Some(self.service(outcome.service));
        record.incident = Some(incident);
    }
}

impl Renderer<'_> {
    pub(super) fn alert_suppressed(&self, record: &mut Record, alert: &SuppressedAlert) {
        let service = self.names.service(alert.service);
        record.message = format!("{service}: alert held back: {}", alert.reason);
        record.event.reason = Some(self.text(&alert.reason, room::DETAIL));
        let incident = self.incident_id(alert.incident);
        record.alert = Some(wire::Alert {
            receiver: None,
            severity: alert.severity.into(),
            status: wire::AlertStatus::Firing,
            attempts: 0,
            dedup_key: incident.id.clone(),
        });
        record.service = Some(self.service(alert.service));
        record.incident = Some(incident);
    }
}

fn timing(timing: Timing) -> wire::Timing {
    wire::Timing {
        detected_ms: timing.detected.map(millis),
        decided_ms: timing.decided.map(millis),
        acted_ms: timing.acted.map(millis),
        listening_ms: timing.listening.map(millis),
        healthy_ms: timing.healthy.map(millis),
    }
}
