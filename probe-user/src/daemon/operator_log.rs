//! The operator's log: incidents, stops, restarts, holds, failed alerts, reloads, and the operators' own commands.
//!
//! The event stream has all of it and more. The log has the facts that a person acts on, and each line begins with its
//! service.

use std::collections::HashMap;

use tracing::{Level, error, info, warn};

use crate::{
    emit::{Names, Origin},
    fact::{
        Action, AlertOutcome, CommandKind, Fact, HookRun, Incident, IncidentId, OperatorReport, Phase,
        Reload, Restart, ServiceState, Severity, Verdict,
    },
    redact::redact,
};

/// Says the facts that matter to an operator, and writes them to the log when nothing urgent is left to do.
pub(super) struct OperatorLog {
    origin: Origin,
    names: Names,
    /// The last log line of each open incident: an update that changes nothing in it is not logged.
    open: HashMap<IncidentId, (Verdict, Severity)>,
    /// Not written yet.
    lines: Vec<Line>,
}

type Line = (Level, String);

impl OperatorLog {
    pub(super) fn new(origin: Origin, names: Names) -> Self {
        Self { origin, names, open: HashMap::new(), lines: Vec::new() }
    }

    /// Takes a line if the fact is one for operators.
    pub(super) fn on_fact(&mut self, fact: &Fact) {
        let line = self.line_of(fact);
        self.lines.extend(line);
    }

    fn line_of(&mut self, fact: &Fact) -> Option<Line> {
        if let Fact::Incident(phase, incident) = fact {
            return self.of_incident(*phase, incident);
        }
        if let Fact::Restart(restart) = fact {
            return Some(self.of_restart(restart));
        }
        if let Fact::ServiceState(service, ServiceState::Stopped, _, why) = fact {
            return Some((
                Level::INFO,
                format!("{}: stopped: {}", self.names.service(*service), redact(why)),
            ));
        }
        if let Fact::Alert(outcome) = fact {
            return self.of_alert(outcome);
        }
        if let Fact::Hook(run) = fact {
            return Some(self.of_hook(run));
        }
        if let Fact::Operator(report) = fact {
            return Some(self.of_operator(report));
        }
        if let Fact::AgentReload(reload) = fact {
            return Some(of_reload(reload));
        }
        None
    }

    /// Writes the lines.
    pub(super) fn write(&mut self) {
        for (level, line) in self.lines.drain(..) {
            match level {
                Level::ERROR => error!("{line}"),
                Level::WARN => warn!("{line}"),
                _ => info!("{line}"),
            }
        }
    }

    /// Takes over the services of another configuration.
    pub(super) fn rename(&mut self, names: Names) {
        self.names = names;
    }

    fn of_incident(&mut self, phase: Phase, incident: &Incident) -> Option<Line> {
        let service = self.names.service(incident.service);
        let id = self.origin.incident_id(incident.id);
        let now = (incident.verdict, incident.severity);
        let became = match phase {
            Phase::Open => "opened",
            Phase::Update if self.open.get(&incident.id) == Some(&now) => return None,
            Phase::Update => "changed",
            Phase::Resolve => {
                self.open.remove(&incident.id);
                let after =
                    incident.timing.healthy.map_or(String::new(), |after| format!(" after {after:.1?}"));
                let restarts = match incident.attempts {
                    0 => "without a restart".to_owned(),
                    1 => "with 1 restart".to_owned(),
                    more => format!("with {more} restarts"),
                };
                let verdict = incident.verdict.as_str();
                let line = format!("{service}: incident {id} resolved{after}, {restarts}: {verdict}");
                return Some((Level::INFO, line));
            }
        };
        self.open.insert(incident.id, now);
        let level = match incident.severity {
            Severity::Critical => Level::ERROR,
            Severity::Warning => Level::WARN,
            Severity::Info => Level::INFO,
        };
        let (verdict, summary) = (incident.verdict.as_str(), redact(&incident.summary));
        Some((level, format!("{service}: incident {id} {became}: {verdict}: {summary}")))
    }

    fn of_hook(&self, run: &HookRun) -> Line {
        let (service, event) = (self.names.service(run.service), run.event.as_str());
        match &run.error {
            None => {
                let line =
                    format!("{service}: hook {} for {event} ran for {:.1?}", run.command, run.duration);
                (Level::INFO, line)
            }
            Some(why) => {
                (Level::WARN, format!("{service}: hook {} for {event} failed: {}", run.command, redact(why)))
            }
        }
    }

    fn of_restart(&self, restart: &Restart) -> Line {
        let service = self.names.service(restart.service);
        let (method, attempt) = (restart.method.as_str(), restart.attempt);
        match &restart.action {
            Action::Request if attempt == 0 => (Level::INFO, format!("{service}: {}", restart.reason)),
            Action::Hold(why) if attempt == 0 => (Level::INFO, format!("{service}: {why}")),
            Action::Request => {
                let reason = redact(&restart.reason);
                (Level::INFO, format!("{service}: restart {attempt} requested by {method}: {reason}"))
            }
            Action::Done => (Level::INFO, format!("{service}: restart {attempt} done by {method}")),
            Action::Fail(why) => {
                (Level::ERROR, format!("{service}: restart {attempt} by {method} failed: {}", redact(why)))
            }
            Action::Hold(why) => (Level::WARN, format!("{service}: restart held: {}", redact(why))),
        }
    }

    fn of_operator(&self, report: &OperatorReport) -> Line {
        let order = redact(&report.words()).into_owned();
        let whole =
            if report.order.kind == CommandKind::Reload { "the configuration" } else { "all services" };
        let subject = report.service.map_or(whole, |service| self.names.service(service));
        match &report.error {
            None => (Level::INFO, format!("{subject}: {order}")),
            Some(why) => {
                let (kind, by) = (report.order.kind.as_str(), &report.order.by);
                (Level::WARN, format!("{subject}: {kind} by {by} failed: {}", redact(why)))
            }
        }
    }

    fn of_alert(&self, outcome: &AlertOutcome) -> Option<Line> {
        let why = redact(outcome.error.as_ref()?);
        let (service, id) = (self.names.service(outcome.service), self.origin.incident_id(outcome.incident));
        let (receiver, attempts) = (&outcome.receiver, outcome.attempts);
        let line = format!(
            "{service}: alert of incident {id} was not delivered to {receiver} (attempt {attempts}): {why}"
        );
        Some((Level::WARN, line))
    }
}

fn of_reload(reload: &Reload) -> Line {
    match reload {
        Reload::Refused(why) => (Level::ERROR, format!("hostprobe: the running configuration stays: {why}")),
        Reload::Applied(changes) => {
            let changes = changes.sentences().join("; ");
            (Level::INFO, format!("hostprobe: the configuration has changed: {changes}"))
        }
        Reload::Unchanged => (Level::INFO, "hostprobe: the configuration has not changed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;
    use crate::{
        clock::Timestamp,
        emit::Name,
        fact::{RestartMethod, ServiceId, Timing},
    };

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The level and the text of each line for these facts.
    fn lines(facts: &[Fact]) -> Vec<String> {
        let page = Page::default();
        let to = page.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || to.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .finish();
        let names = Names::new([Name { service: "web".to_owned(), unit: None }]);
        let mut log = OperatorLog::new(Origin::read("/proc".as_ref()), names);
        facts.iter().for_each(|fact| log.on_fact(fact));
        tracing::subscriber::with_default(subscriber, || log.write());
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    fn incident(verdict: Verdict, severity: Severity) -> Incident {
        Incident {
            id: IncidentId::new(3),
            service: ServiceId(0),
            verdict,
            confidence: 1.0,
            summary: "main process 4711 was killed by bash --password hunter2".to_owned(),
            severity,
            cause: ServiceId(0),
            evidence: Vec::new(),
            held: Vec::new(),
            since: Timestamp::default(),
            timing: Timing::default(),
            attempts: 1,
            snapshot: None,
            context: Default::default(),
            drill: None,
            host: None,
            earlier: Default::default(),
        }
    }

    #[test]
    fn an_incident_is_logged_when_it_opens_changes_and_resolves_and_holds_no_secret() {
        let killed = || incident(Verdict::Killed, Severity::Warning);
        let worse = incident(Verdict::CrashLoop, Severity::Critical);
        let said = lines(&[
            Fact::Incident(Phase::Open, killed()),
            Fact::Incident(Phase::Update, killed()),
            Fact::Incident(Phase::Update, worse.clone()),
            Fact::Incident(Phase::Resolve, worse),
        ]);
        let [open, changed, resolved] = &said[..] else { panic!("{said:#?}") };
        assert!(open.starts_with("WARN web: incident ") && open.contains(" opened: killed: "), "{open}");
        assert!(open.contains("4711") && !open.contains("hunter2"), "{open}");
        assert!(
            changed.starts_with("ERROR web: ") && changed.contains(" changed: crash_loop: "),
            "{changed}"
        );
        assert!(resolved.starts_with("INFO web: "), "{resolved}");
        assert!(resolved.ends_with(" resolved, with 1 restart: crash_loop"), "{resolved}");
    }

    #[test]
    fn a_restart_that_fails_is_an_error_and_one_that_is_held_a_warning() {
        let restart = |action| {
            Fact::Restart(Restart {
                service: ServiceId(0),
                incident: Some(IncidentId::new(3)),
                method: RestartMethod::Systemd,
                attempt: 2,
                reason: "it was killed".to_owned(),
                budget_left: 3,
                action,
            })
        };
        let said = lines(&[
            restart(Action::Request),
            restart(Action::Done),
            restart(Action::Fail("no such unit".to_owned())),
            restart(Action::Hold("db is down".to_owned())),
        ]);
        assert_eq!(
            said,
            [
                "INFO web: restart 2 requested by systemd: it was killed",
                "INFO web: restart 2 done by systemd",
                "ERROR web: restart 2 by systemd failed: no such unit",
                "WARN web: restart held: db is down",
            ]
        );
    }

    #[test]
    fn an_alert_is_logged_only_if_its_delivery_failed_and_a_refused_reload_is_an_error() {
        let alert = |error: Option<&str>| {
            Fact::Alert(AlertOutcome {
                incident: IncidentId::new(3),
                service: ServiceId(0),
                receiver: "https://hooks.test".to_owned(),
                severity: Severity::Critical,
                resolved: false,
                attempts: 1,
                error: error.map(str::to_owned),
            })
        };
        let refused = Fact::AgentReload(Reload::Refused("line 3: no such key".to_owned()));
        let said = lines(&[alert(None), alert(Some("it answered 404")), refused]);
        assert_eq!(said.len(), 2, "{said:#?}");
        assert!(said[0].starts_with("WARN web: alert of incident "), "{said:#?}");
        assert!(said[0].ends_with(" https://hooks.test (attempt 1): it answered 404"), "{said:#?}");
        assert_eq!(said[1], "ERROR hostprobe: the running configuration stays: line 3: no such key");
    }
}
