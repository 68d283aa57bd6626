//! The timeline of a drill, from the facts that the daemon publishes meanwhile.

use crate::{
    clock::Timestamp,
    config::{AlertReceiver, Config},
    engine::Effect,
    fact::{
        Action, AlertOutcome, DrillStep, DrillStepKind, Fact, Incident, IncidentId, Membership, Phase,
        ProbeChange, ProbeOutcome, Restart, ServiceId, Verdict,
    },
    redact::redact,
};

/// The most steps. A service that is restarted again and again makes a few for each restart.
const STEPS_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct DrillTimeline {
    service: ServiceId,
    steps: Vec<(Timestamp, DrillStepKind, String)>,
    /// Steps that had no room.
    pub(super) left_out: u64,
    /// What has shown the fault, each kind once.
    shown_by: Vec<&'static str>,
    pub(super) incident: Option<IncidentId>,
    pub(super) verdict: Option<Verdict>,
    /// When the fault of its incident happened, by the kernel's record.
    pub(super) since: Option<Timestamp>,
    decided: Option<Timestamp>,
    acted: Option<Timestamp>,
    alerted: Option<Timestamp>,
    /// When the service was well again.
    pub(super) recovered: Option<Timestamp>,
    /// When that was known.
    pub(super) resolved: Option<Timestamp>,
    /// How many alerts receivers are to accept yet.
    pub(super) alerts_owed: usize,
    /// An alert was requested.
    pub(super) alerts_requested: usize,
}

/// The times of its main steps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DrillTimes {
    pub(super) detected: Option<f64>,
    pub(super) decided: Option<f64>,
    pub(super) acted: Option<f64>,
    pub(super) recovered: Option<f64>,
    pub(super) alerted: Option<f64>,
}

impl DrillTimeline {
    pub(super) fn new(service: ServiceId) -> Self {
        Self {
            service,
            steps: Vec::new(),
            left_out: 0,
            shown_by: Vec::new(),
            incident: None,
            verdict: None,
            since: None,
            decided: None,
            acted: None,
            alerted: None,
            recovered: None,
            resolved: None,
            alerts_owed: 0,
            alerts_requested: 0,
        }
    }

    pub(super) fn add(&mut self, at: Timestamp, step: DrillStepKind, text: impl Into<String>) {
        if self.steps.len() < STEPS_MAX {
            self.steps.push((at, step, redact(&text.into()).into_owned()));
        } else {
            self.left_out += 1;
        }
    }

    /// Adds a step if the fact is one. `now` is when the daemon knows it.
    pub(super) fn on_fact(&mut self, fact: &Fact, now: Timestamp) {
        if let Fact::Incident(phase, incident) = fact
            && incident.service == self.service
            && incident.drill.is_some()
        {
            return self.on_incident(*phase, incident, now);
        }
        if let Fact::Restart(restart) = fact
            && restart.service == self.service
        {
            return self.on_restart(restart, now);
        }
        if let Fact::Alert(outcome) = fact
            && Some(outcome.incident) == self.incident
        {
            return self.on_alert(outcome, now);
        }
        if self.acted.is_none()
            && self.resolved.is_none()
            && let Some((kind, text)) = self.shown(fact)
            && !self.shown_by.contains(&kind)
        {
            self.shown_by.push(kind);
            self.add(now, DrillStepKind::Detected, text);
        }
    }

    /// What shows the fault, if this does: its kind and a sentence.
    fn shown(&self, fact: &Fact) -> Option<(&'static str, String)> {
        let is_own = |member: &Option<Membership>| member.filter(|it| it.service == self.service);
        if let Fact::ProcessExit(exit, member) = fact {
            is_own(member).filter(|member| member.main)?;
            let (source, pid) = (exit.source.as_str(), exit.process.key.pid);
            return Some(("exit", format!("{source}: main process {pid} ended with {}", exit.status)));
        }
        if let Fact::OomKill(kill, member) = fact {
            is_own(member)?;
            let (source, pid, name) = (kill.source.as_str(), kill.victim.key.pid, &kill.victim.name);
            return Some(("oom", format!("{source}: the OOM killer chose process {pid} ({name})")));
        }
        if let Fact::Listener(listener, service) = fact {
            let is_lost = *service == self.service && !listener.up;
            let (source, port) = (listener.source.as_str(), listener.port);
            return is_lost
                .then(|| ("listener", format!("{source}: the listener on port {port} has closed")));
        }
        if let Fact::Probe(report, ProbeChange::Fail(_)) = fact
            && report.service == self.service
            && let ProbeOutcome::Failed(_, detail) = &report.outcome
        {
            return Some(("probe", format!("probe: {detail}")));
        }
        None
    }

    fn on_incident(&mut self, phase: Phase, incident: &Incident, now: Timestamp) {
        if self.incident.is_some_and(|known| known != incident.id) {
            return;
        }
        let is_new = self.verdict != Some(incident.verdict);
        self.incident = Some(incident.id);
        self.verdict = Some(incident.verdict);
        self.since.get_or_insert(incident.since);
        self.decided.get_or_insert(now);
        match phase {
            Phase::Open | Phase::Update if is_new => {
                let sure = incident.confidence * 100.0;
                let text = format!("{} ({sure:.0} %): {}", incident.verdict.as_str(), incident.summary);
                self.add(now, DrillStepKind::Verdict, text);
            }
            Phase::Open | Phase::Update => {}
            Phase::Resolve => {
                self.resolved = Some(now);
                let Some(healthy) = incident.timing.healthy else {
                    let text = format!("the incident is over without a recovery: {}", incident.summary);
                    return self.add(now, DrillStepKind::Verdict, text);
                };
                let recovered = incident.since.plus(healthy);
                self.recovered = Some(recovered);
                let how = match incident.attempts {
                    0 => "without a restart by hostprobe".to_owned(),
                    1 => "after 1 restart".to_owned(),
                    more => format!("after {more} restarts"),
                };
                self.add(recovered, DrillStepKind::Recovered, format!("the service is healthy, {how}"));
            }
        }
    }

    fn on_restart(&mut self, restart: &Restart, now: Timestamp) {
        let (method, attempt) = (restart.method.as_str(), restart.attempt);
        let text = match &restart.action {
            Action::Request => {
                self.acted.get_or_insert(now);
                format!("restart {attempt} requested, by {method}")
            }
            Action::Done => format!("restart {attempt} done"),
            Action::Fail(why) => format!("restart {attempt} failed: {why}"),
            Action::Hold(why) => format!("restart held: {why}"),
        };
        self.add(now, DrillStepKind::Restart, text);
    }

    fn on_alert(&mut self, outcome: &AlertOutcome, now: Timestamp) {
        let what = if outcome.resolved { "the end of it" } else { "the alert" };
        let text = match &outcome.error {
            None => {
                self.alerts_owed = self.alerts_owed.saturating_sub(1);
                if !outcome.resolved {
                    self.alerted.get_or_insert(now);
                }
                format!("{} accepted {what}", outcome.receiver)
            }
            Some(why) => {
                format!("{} did not accept {what} (attempt {}): {why}", outcome.receiver, outcome.attempts)
            }
        };
        self.add(now, DrillStepKind::Alert, text);
    }

    /// Counts the receivers that want an alert of its incident, which the engine has just requested.
    pub(super) fn on_effect(&mut self, effect: &Effect, config: &Config) {
        let Effect::Alert { incident, .. } = effect else { return };
        if Some(incident.id) == self.incident {
            let service = config.name_of(incident.service);
            let wants =
                |it: &&AlertReceiver| it.route.after.is_zero() && it.route.wants(incident.severity, service);
            let wanted = config.alerts.iter().filter(wants).count();
            self.alerts_owed += wanted;
            self.alerts_requested += wanted;
        }
    }

    /// The steps in the order of their times, from the fault on.
    pub(super) fn steps(&self, fault: Timestamp) -> Vec<DrillStep> {
        let mut steps: Vec<_> = self.steps.iter().collect();
        steps.sort_by_key(|(at, step, _)| (*at, *step != DrillStepKind::Fault));
        let step = |(at, step, text): &(Timestamp, DrillStepKind, String)| DrillStep {
            after_ms: ms(fault, *at),
            step: *step,
            text: text.clone(),
        };
        steps.into_iter().map(step).collect()
    }

    pub(super) fn times(&self, fault: Timestamp) -> DrillTimes {
        let detected = self.steps.iter().find(|(_, step, _)| *step == DrillStepKind::Detected);
        let after = |at: Option<Timestamp>| at.map(|at| ms(fault, at));
        DrillTimes {
            detected: after(detected.map(|(at, ..)| *at).or(self.decided)),
            decided: after(self.decided),
            acted: after(self.acted),
            recovered: after(self.recovered),
            alerted: after(self.alerted),
        }
    }
}

/// To the microsecond.
fn ms(fault: Timestamp, at: Timestamp) -> f64 {
    at.since(fault).as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        config::{AlertFormat, AlertRoute, Secret},
        emit::tests::samples,
        fact::{RestartMethod, Severity},
    };

    const FAULT: Timestamp = Timestamp::from_nanos(1_000_000_000);

    fn after(ms: u64) -> Timestamp {
        FAULT.plus(Duration::from_millis(ms))
    }

    /// An incident of a drill, as the samples have one of their first service.
    fn incident(phase: Phase, healthy: Option<Duration>) -> Fact {
        let Fact::Incident(_, mut incident) = samples::recovered(Duration::ZERO) else { unreachable!() };
        incident.since = FAULT;
        incident.timing.healthy = healthy;
        Fact::Incident(phase, incident)
    }

    fn of_incident(fact: &Fact) -> &Incident {
        let Fact::Incident(_, incident) = fact else { unreachable!() };
        incident
    }

    #[test]
    fn steps_are_in_the_order_of_their_times_and_end_with_the_recovery() {
        let opened = incident(Phase::Open, None);
        let Incident { service, id, .. } = *of_incident(&opened);
        let mut timeline = DrillTimeline::new(service);
        timeline.on_fact(&opened, after(2));
        timeline.on_fact(&incident(Phase::Update, None), after(3));
        let restart = |action| {
            Fact::Restart(Restart {
                service,
                incident: Some(id),
                method: RestartMethod::Supervisor,
                attempt: 1,
                reason: String::new(),
                budget_left: 4,
                action,
            })
        };
        timeline.on_fact(&restart(Action::Request), after(4));
        // The outcome of the fault comes later than what followed from it.
        timeline.add(FAULT, DrillStepKind::Fault, "SIGKILL");
        timeline.on_fact(&restart(Action::Done), after(20));
        timeline.on_fact(&incident(Phase::Resolve, Some(Duration::from_millis(25))), after(30));
        let steps: Vec<_> =
            timeline.steps(FAULT).into_iter().map(|it| (it.step.as_str(), it.after_ms)).collect();
        let expected =
            [("fault", 0.0), ("verdict", 2.0), ("restart", 4.0), ("restart", 20.0), ("recovered", 25.0)];
        assert_eq!(steps, expected);
        let times = timeline.times(FAULT);
        assert_eq!((times.decided, times.acted, times.recovered), (Some(2.0), Some(4.0), Some(25.0)));
    }

    #[test]
    fn a_stop_by_an_operator_ends_an_incident_and_is_no_recovery() {
        let ended = incident(Phase::Resolve, None);
        let mut timeline = DrillTimeline::new(of_incident(&ended).service);
        timeline.on_fact(&ended, after(5));
        assert_eq!((timeline.resolved, timeline.recovered), (Some(after(5)), None));
    }

    #[test]
    fn an_incident_that_no_drill_caused_is_none_of_its_steps() {
        let mut other = incident(Phase::Open, None);
        let Fact::Incident(_, incident) = &mut other else { unreachable!() };
        incident.drill = None;
        let mut timeline = DrillTimeline::new(incident.service);
        timeline.on_fact(&other, after(5));
        assert_eq!((timeline.incident, timeline.steps(FAULT)), (None, Vec::new()));
    }

    #[test]
    fn receivers_owe_what_they_want_until_they_accept_it() {
        let opened = incident(Phase::Open, None);
        let known = of_incident(&opened).clone();
        let mut timeline = DrillTimeline::new(known.service);
        timeline.on_fact(&opened, after(1));
        let receiver = |min_severity, after| AlertReceiver {
            route: AlertRoute { min_severity, after, ..AlertRoute::default() },
            ..AlertReceiver::new(AlertFormat::Json, Secret::new("http://127.0.0.1/"))
        };
        let (now, later) = (Duration::ZERO, Duration::from_secs(600));
        let alerts = vec![
            receiver(Severity::Info, now),
            receiver(Severity::Critical, now),
            receiver(Severity::Info, later),
        ];
        let config = Config { alerts, ..Config::default() };
        let incident = Incident { severity: Severity::Info, ..known.clone() };
        timeline.on_effect(&Effect::Alert { incident, resolved: false }, &config);
        assert_eq!((timeline.alerts_owed, timeline.alerts_requested), (1, 1));
        let outcome = |error: Option<&str>| {
            Fact::Alert(AlertOutcome {
                incident: known.id,
                service: known.service,
                receiver: "http://127.0.0.1".to_owned(),
                severity: Severity::Info,
                resolved: false,
                attempts: 1,
                error: error.map(str::to_owned),
            })
        };
        timeline.on_fact(&outcome(Some("it answered 503")), after(6));
        assert_eq!((timeline.alerts_owed, timeline.times(FAULT).alerted), (1, None));
        timeline.on_fact(&outcome(None), after(9));
        assert_eq!((timeline.alerts_owed, timeline.times(FAULT).alerted), (0, Some(9.0)));
    }
}
