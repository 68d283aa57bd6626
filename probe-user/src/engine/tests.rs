//! The engine's behaviour: observations in, facts and effects out.

mod backends;
mod backlog;
mod chaos;
mod checks;
mod containers;
mod deaths;
mod dependencies;
mod drills;
mod evidence;
mod first_start;
mod fleet;
mod growth;
mod hangs;
mod hooks;
mod host;
mod host_budget;
mod listeners;
mod memory;
mod operator;
mod outside;
mod own_trouble;
mod probes;
mod properties;
mod races;
mod refusals;
mod reload;
mod restart_outcomes;
mod standstill;
mod successors;
mod unanswered;
mod unit_states;
mod units;
mod workers;
mod wrappers;

use std::{path::PathBuf, time::Duration};

use super::*;
use crate::{
    clock::Timestamp,
    config::{Exec, Identity, Limits, Policy, Probe, RestartPolicy, Secret},
    fact::{
        AcceptQueue, Action, CommandKind, EventId, Examination, ExitStatus, Fact, FaultContext, Incident,
        Listener, Membership, Operator, Order, Phase, ProbeFailure, ProbeKind, ProbeOutcome, ProbeReport,
        Process, ProcessExit, ProcessKey, ResourceUsage, Restart, RestartMethod, Sender, ServerLimits,
        ServerReport, ServerUsage, ServiceState, Severity, SocketError, Source, Suspension, UnitJob,
        UnitState, User, Verdict,
    },
};

const API: ServiceId = ServiceId(0);
const LATER: Duration = Duration::from_secs(60);
const SYSTEMD: u32 = 1;

/// The engine with the service under test, and all its facts and effects.
struct Lab {
    engine: Engine,
    now: Timestamp,
    published: Vec<Fact>,
    requested: Vec<Effect>,
    /// What the daemon answers if a probe is refused; None: nothing.
    listens: Option<bool>,
    /// How long the daemon itself does not run during a probe, if that matters.
    hurried: Option<Duration>,
}

impl Effects for Lab {
    fn publish(&mut self, fact: Fact, _at: Timestamp) -> EventId {
        self.published.push(fact);
        EventId(self.published.len() as u64)
    }

    fn request(&mut self, effect: Effect) {
        self.requested.push(effect);
    }
}

impl Lab {
    fn new(identity: Identity, probes: Vec<Probe>, restart: RestartPolicy) -> Self {
        Self::with_observe(false, identity, probes, restart)
    }

    /// With or without `--observe`.
    fn with_observe(observe: bool, identity: Identity, probes: Vec<Probe>, restart: RestartPolicy) -> Self {
        let mut lab = Self::of(observe, &[service("api", identity, probes, restart)]);
        lab.see(Observation::Running(API, process(100)));
        lab.answer(ProbeOutcome::Ok);
        lab.published.clear();
        lab.requested.clear();
        lab
    }

    /// With these services, before any observation.
    fn of(observe: bool, services: &[config::Service]) -> Self {
        let now = at(1000);
        Self {
            engine: Engine::new(services, observe, now),
            now,
            published: vec![],
            requested: vec![],
            listens: Some(false),
            hurried: None,
        }
    }

    fn exec() -> Self {
        Self::new(exec_identity(), vec![http_probe()], policy())
    }

    fn see(&mut self, observation: Observation) {
        let mut engine = std::mem::replace(&mut self.engine, Engine::new(&[], false, self.now));
        engine.observe(self.now, observation, self);
        self.engine = engine;
    }

    fn tick(&mut self) {
        let mut engine = std::mem::replace(&mut self.engine, Engine::new(&[], false, self.now));
        engine.tick(self.now, self);
        self.engine = engine;
    }

    /// Advances the time, and ticks at every deadline.
    fn wait(&mut self, span: Duration) {
        let until = self.now.plus(span);
        let mut engine = std::mem::replace(&mut self.engine, Engine::new(&[], false, self.now));
        while let Some(due) = engine.deadline().filter(|&due| due <= until) {
            self.now = self.now.max(due);
            engine.tick(self.now, self);
        }
        self.engine = engine;
        self.now = until;
    }

    fn answer(&mut self, outcome: ProbeOutcome) {
        self.answer_of(API, outcome);
    }

    fn answer_of(&mut self, service: ServiceId, outcome: ProbeOutcome) {
        self.answer_after(service, Duration::from_millis(1), outcome);
    }

    fn answer_after(&mut self, service: ServiceId, duration: Duration, outcome: ProbeOutcome) {
        self.now = self.now.plus(Duration::from_millis(4)).plus(duration);
        let known = self.requested.len();
        self.see(Observation::Probe(ProbeReport {
            service,
            index: 0,
            at: self.now,
            kind: ProbeKind::Http,
            target: "http://127.0.0.1:8080/".into(),
            duration,
            outcome,
            hurried: self.hurried,
            remark: None,
            server: None,
        }));
        let asked: Vec<Effect> = self.requested[known..].to_vec();
        for effect in asked {
            if let (Effect::FindListener { service, port }, Some(listens)) = (effect, self.listens) {
                self.see(Observation::ListenerChecked(service, port, listens));
            }
        }
    }

    /// A right answer, after which the server is so far behind its primary.
    fn lag(&mut self, lag: Duration) {
        self.now = self.now.plus(Duration::from_millis(5));
        let report = ServerReport { lag: Some(lag), ..ServerReport::default() };
        self.see(Observation::Probe(ProbeReport {
            service: API,
            index: 0,
            at: self.now,
            kind: ProbeKind::Redis,
            target: "redis://127.0.0.1".into(),
            duration: Duration::from_millis(1),
            outcome: ProbeOutcome::Ok,
            hurried: None,
            remark: None,
            server: Some(ServerUsage { report, ..ServerUsage::default() }),
        }));
    }

    fn refuse(&mut self) {
        self.answer(ProbeOutcome::Failed(ProbeFailure::Refused, "connection refused".into()));
    }

    fn die(&mut self, pid: u32, status: ExitStatus, sender: Option<Sender>) {
        self.now = self.now.plus(Duration::from_millis(1));
        let exit = exit(pid, self.now, status, sender);
        self.see(Observation::Exit(exit, Membership { service: API, main: true }, EventId(900)));
    }

    fn killed(&mut self, pid: u32) {
        self.die(pid, KILL, Some(bash()));
    }

    /// The restart succeeds, and the service answers as `pid`.
    fn comes_back(&mut self, pid: u32) {
        self.see(Observation::RestartOutcome(API, Ok(())));
        self.see(Observation::Running(API, process(pid)));
        self.answer(ProbeOutcome::Ok);
    }

    fn incidents(&self) -> Vec<(Phase, Verdict, Severity)> {
        let mut incidents = Vec::new();
        for fact in &self.published {
            if let Fact::Incident(phase, incident) = fact {
                incidents.push((*phase, incident.verdict, incident.severity));
            }
        }
        incidents
    }

    fn restarts(&self) -> Vec<&Restart> {
        self.published
            .iter()
            .filter_map(|fact| if let Fact::Restart(restart) = fact { Some(restart) } else { None })
            .collect()
    }

    fn restarts_asked(&self) -> usize {
        self.requested.iter().filter(|effect| matches!(effect, Effect::Restart { .. })).count()
    }

    fn alerts(&self) -> Vec<(Verdict, Severity, bool)> {
        let mut alerts = Vec::new();
        for effect in &self.requested {
            if let Effect::Alert { incident, resolved } = effect {
                alerts.push((incident.verdict, incident.severity, *resolved));
            }
        }
        alerts
    }

    /// The states that it has had, in order.
    fn states(&self) -> Vec<ServiceState> {
        let state = |fact: &Fact| {
            if let Fact::ServiceState(_, state, ..) = fact { Some(*state) } else { None }
        };
        self.published.iter().filter_map(state).collect()
    }

    fn state(&self) -> ServiceState {
        self.engine.view().next().unwrap().state
    }
}

/// Probes time out, and the examinations find nothing unusual.
fn time_out(lab: &mut Lab, times: u32) {
    for _ in 0..times {
        lab.answer(ProbeOutcome::Failed(ProbeFailure::Timeout, "no answer".into()));
        lab.see(Observation::Examined(API, Some(at_work())));
    }
}

fn at_work() -> Examination {
    let (over, cpu) = (Duration::from_millis(200), Duration::from_millis(50));
    Examination { over, cpu, switches: 20, ..Examination::default() }
}

fn snapshot() -> Observation {
    Observation::Snapshot(API, Ok("/var/lib/hostprobe/snapshots/api.txt".into()))
}

const KILL: ExitStatus = ExitStatus::Signal { number: 9, core_dumped: false };
const SEGV: ExitStatus = ExitStatus::Signal { number: 11, core_dumped: true };

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

fn process(pid: u32) -> ProcessKey {
    ProcessKey { pid, start: Timestamp::from_nanos(1_000_000_000_000 + u64::from(pid)) }
}

fn bash() -> Sender {
    Sender::Process { pid: 4000, name: "bash".into(), user_id: 0, unit: None, terminal: false }
}

fn exit(pid: u32, at: Timestamp, status: ExitStatus, sender: Option<Sender>) -> ProcessExit {
    let signal = status.signal();
    ProcessExit {
        at,
        source: Source::Ebpf,
        process: Process { name: "api".into(), ..Process::unknown(process(pid), 1) },
        status,
        sent_signal: sender.as_ref().and(signal),
        sender,
        sender_service: None,
        oom: false,
        max_rss_bytes: 0,
        namespace_end: None,
        left_processes: false,
        crash: None,
        actor: None,
    }
}

fn order(kind: CommandKind, since: Timestamp) -> Order {
    let by = Operator { user: User { id: 0, name: Some("root".into()) }, login: None };
    Order { kind, by, reason: Some("the disk is replaced".into()), since, until: None }
}

fn exec_identity() -> Identity {
    let command = vec!["/usr/bin/api".into()];
    Identity::Exec(Exec { command, output: PathBuf::from("/var/log/api.log"), ..Exec::default() })
}

fn policy() -> RestartPolicy {
    RestartPolicy { enabled: true, ..RestartPolicy::default() }
}

fn service(name: &str, identity: Identity, probes: Vec<Probe>, restart: RestartPolicy) -> config::Service {
    config::Service {
        id: ServiceId(0),
        name: name.into(),
        identity,
        depends_on: vec![],
        start_after: vec![],
        critical: true,
        maintenance: vec![],
        probes,
        restart,
        limits: Limits { threads: Some(10), ..Limits::default() },
        policy: Policy::default(),
    }
}

fn http_probe() -> Probe {
    let target = Secret::new("http://127.0.0.1:8080/");
    Probe { slow: Some(Duration::from_secs(2)), ..Probe::new(ProbeKind::Http, target) }
}
