//! One service: what is known of it, and what is being done about it.

mod incident;
mod probes;
mod systemd;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use incident::Open;
use probes::ProbeState;
use systemd::Inspection;

use super::{
    Effect, Outbox, ServiceView, Turn, Usage,
    budget::Budget,
    verdict::{self, Finding},
};
use crate::{
    clock::Timestamp,
    config::{self, Identity, Limits, RestartPolicy},
    fact::{
        Action, EventId, Fact, Listener, OomKill, ProcessExit, ProcessKey, Restart, RestartMethod, ServiceId,
        ServiceState, UnitState, Verdict,
    },
};

/// How long a listener may be gone before a living process counts as not listening: a reload that closes
/// and reopens it takes less.
const LISTENER_GONE: Duration = Duration::from_millis(250);

/// The most starts that are remembered, to stay below a unit's StartLimit.
const MAX_STARTS: usize = 64;

/// A service without probes counts as well again once it has run for this long.
const SETTLED: Duration = Duration::from_secs(1);

/// What the engine is waiting for.
#[derive(Debug)]
enum Step {
    /// Nothing.
    Idle,
    /// systemd's word on what became of the unit.
    Inspect(Box<Inspection>),
    /// The end of the back-off.
    Backoff { until: Timestamp },
    /// The restart that was asked for, and the main process that comes of it.
    Restarting { until: Timestamp },
    /// systemd's own restart.
    TheirRestart { until: Timestamp },
    /// The service to prove well.
    Verify,
    /// The end of the long back-off.
    GivenUp { until: Timestamp },
}

/// A service as the engine knows it.
#[derive(Debug)]
pub(super) struct Service {
    id: ServiceId,
    method: RestartMethod,
    is_unit: bool,
    is_remote: bool,
    critical: bool,
    policy: RestartPolicy,
    /// It would be restarted, were the daemon not told to observe only.
    observed: bool,
    limits: Limits,
    budget: Budget,
    state: ServiceState,
    main: Option<ProcessKey>,
    /// When it was last (re)started, as far as is known.
    started: Timestamp,
    /// Until then, failed probes do not count.
    grace_until: Timestamp,
    probes: Vec<ProbeState>,
    /// Sockets that listen, by port.
    listeners: BTreeMap<u16, u32>,
    /// The ports it is expected to listen on: of its probes and its matcher; else those it had.
    ports: BTreeSet<u16>,
    ports_configured: bool,
    /// A listener it needs is gone since then.
    lost_listener: Option<(Timestamp, EventId, u16)>,
    oom: Option<(OomKill, EventId)>,
    /// The unit as last read.
    unit: Option<UnitState>,
    /// The unit's invocation that the main process belongs to.
    invocation: Option<String>,
    /// systemd has given up on the unit: without a reset it refuses every start.
    needs_reset: bool,
    /// When it was started, by whomever.
    starts: VecDeque<Timestamp>,
    /// What is above its limit, in words.
    breaches: Vec<String>,
    step: Step,
    incident: Option<Open>,
}

impl Service {
    pub(super) fn new(id: ServiceId, spec: &config::Service, observe: bool, now: Timestamp) -> Self {
        let method = match &spec.identity {
            Identity::Unit(_) => RestartMethod::Systemd,
            Identity::Exec(_) => RestartMethod::Supervisor,
            Identity::Match(_) if spec.restart.command.is_some() => RestartMethod::Command,
            Identity::Match(_) | Identity::Remote => RestartMethod::None,
        };
        let mut policy = spec.restart.clone();
        policy.enabled &= !observe;
        let ports = spec.local_ports();
        Self {
            id,
            method,
            is_unit: matches!(spec.identity, Identity::Unit(_)),
            is_remote: spec.identity == Identity::Remote,
            critical: spec.critical,
            budget: Budget::new(&policy),
            observed: observe && spec.restart.enabled,
            limits: spec.limits,
            state: ServiceState::Starting,
            main: None,
            started: now,
            grace_until: now,
            probes: spec.probes.iter().map(ProbeState::new).collect(),
            listeners: BTreeMap::new(),
            ports_configured: !ports.is_empty(),
            ports,
            lost_listener: None,
            oom: None,
            unit: None,
            invocation: None,
            needs_reset: false,
            starts: VecDeque::new(),
            breaches: Vec::new(),
            step: Step::Idle,
            incident: None,
            policy,
        }
    }

    /// A main process was found running.
    pub(super) fn running<O: Outbox>(&mut self, main: ProcessKey, turn: &mut Turn<'_, O>) {
        if self.main == Some(main) {
            return;
        }
        let first = self.starts.is_empty() && self.incident.is_none();
        self.main = Some(main);
        self.lost_listener = None;
        if !matches!(self.step, Step::Restarting { .. }) {
            self.count_start(turn.now);
        }
        self.begin_anew(turn.now);
        if first && main.start < turn.now && turn.now.since(main.start) > self.policy.grace {
            // It has been up since long before the daemon looked: no grace is due.
            self.grace_until = turn.now;
        }
        if matches!(self.step, Step::TheirRestart { .. } | Step::Inspect(_)) {
            self.budget.spend(turn.now);
        }
        self.step = if self.incident.is_some() { Step::Verify } else { Step::Idle };
        turn.act(Effect::ProbeUntilWell(self.id));
    }

    fn count_start(&mut self, now: Timestamp) {
        self.starts.push_back(now);
        if self.starts.len() > MAX_STARTS {
            self.starts.pop_front();
        }
    }

    /// Counters and grace start afresh, as after every start.
    fn begin_anew(&mut self, now: Timestamp) {
        self.started = now;
        self.grace_until = now.plus(self.policy.grace);
        for probe in &mut self.probes {
            probe.begin_anew(now);
        }
    }

    /// A process of the service ended.
    pub(super) fn exited<O: Outbox>(
        &mut self,
        exit: ProcessExit,
        main: bool,
        event: EventId,
        turn: &mut Turn<'_, O>,
    ) {
        if !main || self.main != Some(exit.process.key) {
            return;
        }
        self.main = None;
        self.lost_listener = None;
        self.listeners.clear();
        if matches!(self.step, Step::Restarting { .. }) {
            // It ends because it is being restarted.
            return;
        }
        let oom = self.oom.take().filter(|(kill, _)| kill.victim.key.pid == exit.process.key.pid);
        let finding = verdict::of_exit(&exit, oom.as_ref().map(|(kill, _)| kill));
        let mut evidence = vec![event];
        evidence.extend(oom.map(|(_, event)| event));
        let fault = Fault { since: exit.at, detected: turn.now, finding, evidence, may_help: true };
        if self.is_unit {
            self.inspect(fault, Some(exit), turn);
        } else {
            self.fail(fault, turn);
        }
    }

    /// The OOM killer chose one of its processes; the exit that follows is explained by it.
    pub(super) fn oom_killed(&mut self, kill: OomKill, event: EventId) {
        self.oom = Some((kill, event));
    }

    /// It listened on these ports before anybody watched.
    pub(super) fn listening(&mut self, ports: Vec<u16>) {
        self.listeners.clear();
        for port in ports {
            self.has_listener(port);
        }
    }

    fn has_listener(&mut self, port: u16) {
        *self.listeners.entry(port).or_default() += 1;
        if !self.ports_configured {
            self.ports.insert(port);
        }
    }

    /// A listener came or went.
    pub(super) fn listener<O: Outbox>(
        &mut self,
        listener: &Listener,
        event: EventId,
        turn: &mut Turn<'_, O>,
    ) {
        if listener.up {
            self.has_listener(listener.port);
            if self.lost_listener.is_some_and(|(_, _, port)| port == listener.port) {
                self.lost_listener = None;
            }
            if let Some(open) = &mut self.incident {
                open.listening(listener.at);
            }
            turn.act(Effect::ProbeNow(self.id));
            return;
        }
        // A socket nobody counted is none that was needed.
        let Some(count) = self.listeners.get_mut(&listener.port) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.listeners.remove(&listener.port);
        let needed = if self.ports_configured {
            self.ports.contains(&listener.port)
        } else {
            self.listeners.is_empty()
        };
        if needed && self.main.is_some() && self.incident.is_none() && matches!(self.step, Step::Idle) {
            self.lost_listener = Some((listener.at, event, listener.port));
            turn.act(Effect::ProbeNow(self.id));
        }
    }

    /// The restart that was asked for was carried out, or was not.
    pub(super) fn restarted<O: Outbox>(&mut self, outcome: Result<(), String>, turn: &mut Turn<'_, O>) {
        let action = match &outcome {
            Ok(()) => Action::Done,
            Err(error) => Action::Fail(error.clone()),
        };
        // A first start is no restart; what fails of it is told by the incident that it opens.
        if self.incident.is_some() {
            self.say_restart(action, turn);
        }
        match outcome {
            Ok(()) if self.is_unit => turn.act(Effect::InspectUnit(self.id)),
            Ok(()) => {}
            Err(error) => {
                let finding = Finding {
                    verdict: Verdict::Exited,
                    confidence: 1.0,
                    summary: format!("it could not be started: {error}"),
                };
                let fault = Fault::now(turn.now, finding);
                self.step = Step::Idle;
                self.fail(fault, turn);
            }
        }
    }

    /// What its processes use, held against its limits.
    pub(super) fn used(&mut self, usage: Usage) {
        let limits = self.limits;
        let mut breaches = Vec::new();
        let mut hold = |name: &str, used: f64, limit: Option<f64>, unit: &str| {
            if let Some(limit) = limit.filter(|&limit| used > limit) {
                breaches.push(format!("{name} {used:.0}{unit} is above its limit of {limit:.0}{unit}"));
            }
        };
        hold("cpu", usage.cpu_percent, limits.cpu_percent, "%");
        hold("memory", usage.memory_percent, limits.memory_percent, "%");
        hold("threads", usage.threads as f64, limits.threads.map(|limit| limit as f64), "");
        hold("open files", usage.fds as f64, limits.fds.map(|limit| limit as f64), "");
        self.breaches = breaches;
    }

    /// When something is due for it.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let step = match &self.step {
            Step::Idle => None,
            Step::Inspect(inspection) => inspection.again_at,
            Step::Backoff { until }
            | Step::Restarting { until }
            | Step::TheirRestart { until }
            | Step::GivenUp { until } => Some(*until),
            Step::Verify if self.probes.is_empty() => Some(self.started.plus(SETTLED)),
            Step::Verify => None,
        };
        let alert = self.incident.as_ref().and_then(|open| open.alert_at);
        let lost = self.lost_listener.map(|(since, ..)| since.plus(LISTENER_GONE));
        [step, alert, lost].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn due<O: Outbox>(&mut self, turn: &mut Turn<'_, O>) {
        self.alert_if_due(turn);
        if let Some((since, event, port)) =
            self.lost_listener.filter(|(at, ..)| at.plus(LISTENER_GONE) <= turn.now)
        {
            self.lost_listener = None;
            let finding = Finding {
                verdict: Verdict::NotListening,
                confidence: 1.0,
                summary: format!("its process lives, but it closed its listener on port {port}"),
            };
            let fault = Fault { since, detected: since, finding, evidence: vec![event], may_help: true };
            if self.is_unit {
                self.inspect(fault, None, turn)
            } else {
                self.fail(fault, turn)
            }
            return;
        }
        match &self.step {
            Step::Inspect(inspection) if inspection.again_at.is_some_and(|at| at <= turn.now) => {
                self.inspect_again(turn);
            }
            Step::Backoff { until } | Step::GivenUp { until } if *until <= turn.now => self.restart(turn),
            Step::Restarting { until } if *until <= turn.now => {
                self.step = Step::Idle;
                let summary = "no main process came of the restart".to_owned();
                let finding = Finding { verdict: Verdict::Exited, confidence: 0.8, summary };
                let fault = Fault::now(turn.now, finding);
                self.fail(fault, turn);
            }
            Step::TheirRestart { until } if *until <= turn.now => self.their_restart_failed(turn),
            Step::Idle
            | Step::Inspect(_)
            | Step::Backoff { .. }
            | Step::Restarting { .. }
            | Step::TheirRestart { .. }
            | Step::Verify
            | Step::GivenUp { .. } => {}
        }
    }

    /// Decides what to do about the open incident.
    fn decide<O: Outbox>(&mut self, may_help: bool, turn: &mut Turn<'_, O>) {
        let Some(open) = &self.incident else { return };
        if open.incident.verdict == Verdict::Stopped || self.is_remote {
            self.step = Step::Idle;
            return;
        }
        let attempt = open.incident.attempts + 1;
        if self.observed {
            return self.hold("the daemon only observes (--observe)", turn);
        }
        if !self.policy.enabled || self.method == RestartMethod::None {
            return self.hold("restarts are not enabled for this service", turn);
        }
        if !may_help {
            return self.hold("a restart would not mend this", turn);
        }
        if self.budget.left(turn.now) == 0 {
            return self.give_up(turn);
        }
        let wait = self.budget.backoff(attempt);
        if wait.is_zero() {
            self.restart(turn);
        } else {
            let why = format!("back-off of {} before attempt {attempt}", super::budget::describe(wait));
            self.say_restart(Action::Hold(why), turn);
            self.step = Step::Backoff { until: turn.now.plus(wait) };
        }
    }

    /// Holds the restart on purpose; the incident stays open until the service is well again.
    fn hold<O: Outbox>(&mut self, why: &str, turn: &mut Turn<'_, O>) {
        self.step = Step::Idle;
        self.say_restart(Action::Hold(why.to_owned()), turn);
        self.alert_now(turn);
    }

    /// The budget is spent: stop trying for long.
    fn give_up<O: Outbox>(&mut self, turn: &mut Turn<'_, O>) {
        let wait = self.budget.long_backoff();
        let next = super::budget::describe(wait);
        let why =
            format!("its budget of {} restarts is spent; the next try is in {next}", self.budget.describe());
        self.loops(&why, turn);
        self.say_restart(Action::Hold(why), turn);
        self.alert_now(turn);
        if self.is_unit {
            turn.act(Effect::ResetFailed(self.id));
        }
        self.step = Step::GivenUp { until: turn.now.plus(wait) };
    }

    fn restart<O: Outbox>(&mut self, turn: &mut Turn<'_, O>) {
        self.budget.spend(turn.now);
        if let Some(open) = &mut self.incident {
            open.acted(turn.now);
        }
        let reset_failed = self.start_limit_is_near(turn.now);
        self.needs_reset = false;
        self.count_start(turn.now);
        turn.act(Effect::Restart { service: self.id, method: self.method, reset_failed });
        self.say_restart(Action::Request, turn);
        // Alive or not, what its probes found before is past.
        self.begin_anew(turn.now);
        self.step = Step::Restarting { until: turn.now.plus(self.policy.grace.max(Duration::from_secs(5))) };
    }

    fn say_restart<O: Outbox>(&mut self, action: Action, turn: &mut Turn<'_, O>) {
        let incident = self.incident.as_ref().map(|open| &open.incident);
        let restart = Restart {
            service: self.id,
            incident: incident.map(|incident| incident.id),
            method: self.method,
            attempt: incident.map_or(0, |incident| match action {
                Action::Hold(_) => incident.attempts + 1,
                Action::Request | Action::Done | Action::Fail(_) => incident.attempts,
            }),
            reason: incident.map_or_else(|| "first start".to_owned(), |incident| incident.summary.clone()),
            budget_left: self.budget.left(turn.now),
            action,
        };
        turn.emit(Fact::Restart(restart));
    }

    /// Draws the conclusions of what has changed: an incident that is over, a state that is another.
    pub(super) fn settle<O: Outbox>(&mut self, turn: &mut Turn<'_, O>) {
        if self.incident.is_some() && self.is_well(turn.now) {
            self.resolve(turn);
        }
        let (state, why) = self.conclude();
        if state != self.state {
            let previous = std::mem::replace(&mut self.state, state);
            turn.emit(Fact::ServiceState(self.id, state, previous, why));
        }
    }

    /// Whether it has proved well since its last start.
    fn is_well(&self, now: Timestamp) -> bool {
        if matches!(self.step, Step::Restarting { .. } | Step::Inspect(_) | Step::TheirRestart { .. }) {
            return false;
        }
        let stopped = self.incident.as_ref().is_some_and(|open| open.incident.verdict == Verdict::Stopped);
        if (stopped || !self.is_remote && self.probes.is_empty()) && self.main.is_none() {
            return false;
        }
        if self.lost_listener.is_some() || !self.listens_again() {
            return false;
        }
        if self.probes.is_empty() {
            now.since(self.started) >= SETTLED
        } else {
            self.probes.iter().all(|p| p.ok)
        }
    }

    /// After a verdict of [`Verdict::NotListening`], answers count only once it listens or was restarted.
    fn listens_again(&self) -> bool {
        let Some(open) = &self.incident else { return true };
        open.incident.verdict != Verdict::NotListening
            || open.incident.attempts > 0
            || !self.probes.is_empty()
            || self.ports.iter().any(|port| self.listeners.contains_key(port))
    }

    fn conclude(&self) -> (ServiceState, String) {
        let verdict = self.incident.as_ref().map(|open| open.incident.verdict);
        let summary =
            || self.incident.as_ref().map_or_else(String::new, |open| open.incident.summary.clone());
        if verdict == Some(Verdict::Stopped) && self.main.is_none() {
            return (ServiceState::Stopped, summary());
        }
        if self.incident.is_some() {
            let starting =
                matches!(self.step, Step::Verify | Step::Restarting { .. } | Step::TheirRestart { .. });
            return match (self.main.is_some() || self.is_remote, starting) {
                (_, true) => {
                    let why =
                        self.says_it_starts().unwrap_or_else(|| "waiting for it to prove well".to_owned());
                    (ServiceState::Starting, why)
                }
                (true, false) => (ServiceState::Unhealthy, summary()),
                (false, false) => (ServiceState::Down, summary()),
            };
        }
        if let Some(why) = self.says_it_starts() {
            return (ServiceState::Starting, why);
        }
        if self.unit_is_stopped() {
            return (ServiceState::Stopped, "systemd says it is stopped".to_owned());
        }
        let heard = self.main.is_some() || self.probes.iter().any(|probe| probe.ok || probe.failing());
        if !heard {
            return (ServiceState::Starting, "nothing is known of it yet".to_owned());
        }
        if let Some(detail) = self.probes.iter().find_map(ProbeState::complaint) {
            return (ServiceState::Degraded, detail);
        }
        if !self.breaches.is_empty() {
            return (ServiceState::Degraded, self.breaches.join("; "));
        }
        if self.probes.iter().all(|probe| probe.ok) {
            (ServiceState::Healthy, "all is well".to_owned())
        } else {
            (self.state, "waiting for its probes".to_owned())
        }
    }

    /// What the service itself says of its start, if it says that it is still at it.
    fn says_it_starts(&self) -> Option<String> {
        let detail = self.probes.iter().find_map(|probe| probe.starting.as_ref())?;
        Some(format!("it says it is starting: {detail}"))
    }

    pub(super) fn view(&self) -> ServiceView {
        let (_, why) = self.conclude();
        ServiceView {
            state: self.state,
            response_time: self.probes.iter().filter_map(|probe| probe.took).max(),
            error: (self.state != ServiceState::Healthy).then_some(why),
            incident: self.incident.as_ref().map(|open| open.incident.clone()),
        }
    }
}

/// Evidence of a fault, before it has become an incident.
#[derive(Clone, Debug)]
struct Fault {
    /// When it happened.
    since: Timestamp,
    /// When the daemon knew of it.
    detected: Timestamp,
    finding: Finding,
    evidence: Vec<EventId>,
    /// Whether a restart could mend it.
    may_help: bool,
}

impl Fault {
    /// A fault of this moment that no event shows.
    fn now(now: Timestamp, finding: Finding) -> Self {
        Self { since: now, detected: now, finding, evidence: Vec::new(), may_help: true }
    }
}
