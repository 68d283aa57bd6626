//! Random observations in random order: what holds of the engine whatever happens.
//!
//! `cargo xtask properties --minutes N` runs it for longer. proptest shortens a sequence that fails.

use std::{collections::HashMap, env, time::Instant};

use proptest::{
    collection::vec,
    prelude::{Strategy, any, prop_assert, prop_assert_eq},
    prop_oneof,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};

use super::{
    chaos::{Random, observation, services},
    *,
};
use crate::{
    emit::{Name, Names, Origin},
    engine::rules::{self, DefaultAction},
    fact::{CommandKind, HostSubject, IncidentId, OperatorCommand, Pressure},
    store::recording::{
        Decision,
        filter::Filter,
        portable::{named, placed},
    },
};

/// The wait before an observation in milliseconds, and the seed that chooses it.
type Step = (u32, u64);

/// Steps with short waits, and with a long one now and then if `longest` says so.
fn steps(longest: u32) -> impl Strategy<Value = Vec<Step>> {
    vec((prop_oneof![24 => 0..3000_u32, 1 => 0..longest], any::<u64>()), 0..400)
}

const BUDGET_WINDOW: Duration = Duration::from_secs(600);

const LONG_BACKOFF: Duration = Duration::from_secs(60);

/// The engine, with each fact at the time of its publication.
struct Trial {
    lab: Lab,
    times: Vec<Timestamp>,
    /// What the recording would leave out is not observed.
    filter: Option<Filter>,
}

impl Trial {
    fn new(filtered: bool) -> Self {
        let services = services();
        let filter = filtered.then(|| Filter::new(&services));
        Self { lab: Lab::of(false, &services), times: Vec::new(), filter }
    }

    fn run(mut self, steps: &[Step]) -> Result<Self, TestCaseError> {
        for (wait, seed) in steps {
            self.wait(Duration::from_millis((*wait).into()))?;
            let seen = observation(&mut Random::new(*seed), self.lab.now);
            self.see(seen);
            prop_assert_eq!(self.lab.engine.waits_without_limit(), None, "it waits without a limit");
        }
        Ok(self)
    }

    fn see(&mut self, seen: Observation) {
        let now = self.lab.now;
        if self.filter.as_mut().is_none_or(|filter| filter.wants(now, &seen)) {
            self.lab.see(seen);
            self.stamp();
        }
    }

    /// Ticks at every deadline, one after the other.
    fn wait(&mut self, span: Duration) -> Result<(), TestCaseError> {
        let until = self.lab.now.plus(span);
        while let Some(due) = self.lab.engine.deadline().filter(|due| *due <= until) {
            let before = self.lab.now;
            self.lab.now = before.max(due);
            self.lab.tick();
            self.stamp();
            let next = self.lab.engine.deadline();
            prop_assert!(next.is_none_or(|next| next > self.lab.now), "it is due at once again");
        }
        self.lab.now = until;
        Ok(())
    }

    /// Stamps the new facts, and shows them to the filter as the daemon does.
    fn stamp(&mut self) {
        for fact in &self.lab.published[self.times.len()..] {
            if let Some(filter) = &mut self.filter {
                filter.on_fact(fact, self.lab.now);
            }
        }
        self.times.resize(self.lab.published.len(), self.lab.now);
    }

    fn decisions(&self) -> Vec<(Timestamp, Decision)> {
        let name = |service: config::Service| Name { service: service.name, unit: None };
        let names = Names::new(services().into_iter().map(name));
        let (host_name, boot_id, ephemeral_id) = (String::new(), String::new(), "run".to_owned());
        let origin = Origin { host_name, boot_id, ephemeral_id };
        let decided = |(fact, at): (&Fact, &Timestamp)| Some((*at, Decision::of(fact, &names, &origin)?));
        self.lab.published.iter().zip(&self.times).filter_map(decided).collect()
    }
}

/// What the facts published so far say of one service.
#[derive(Default)]
struct Shown {
    state: Option<ServiceState>,
    open: Option<(IncidentId, Verdict)>,
    requests: Vec<Timestamp>,
}

/// A restart is requested only for an open incident whose verdict allows one, never of a remote service, and within the
/// budget. An incident opens once, changes while it is open, and is resolved once. The host has one for each of its faults.
fn facts_are_consistent(trial: &Trial) -> Result<(), TestCaseError> {
    let specs = services();
    let mut all: HashMap<(ServiceId, Option<HostSubject>), Shown> = HashMap::new();
    let mut ever: Vec<IncidentId> = Vec::new();
    for (fact, at) in trial.lab.published.iter().zip(&trial.times) {
        if let Fact::ServiceState(id, state, before, _) = fact {
            let shown = all.entry((*id, None)).or_default();
            prop_assert!(shown.state.is_none_or(|known| known == *before), "{before:?} was not its state");
            prop_assert!(state != before, "{state:?} again");
            shown.state = Some(*state);
        } else if let Fact::Incident(phase, incident) = fact {
            let is_service = specs.len() > incident.service.0 as usize;
            let subject = incident.host.clone().filter(|_| !is_service);
            let shown = all.entry((incident.service, subject)).or_default();
            let open = shown.open.map(|(id, _)| id);
            if *phase == Phase::Open {
                prop_assert_eq!(open, None, "a second incident beside an open one");
                prop_assert!(!ever.contains(&incident.id), "an id twice");
                ever.push(incident.id);
            } else {
                prop_assert_eq!(open, Some(incident.id), "{:?} of an incident that is not open", phase);
            }
            shown.open = (*phase != Phase::Resolve).then_some((incident.id, incident.verdict));
        } else if let Fact::Restart(restart) = fact
            && restart.action == Action::Request
        {
            let shown = all.entry((restart.service, None)).or_default();
            let spec = &specs[restart.service.0 as usize];
            prop_assert!(!matches!(spec.identity, Identity::Remote), "a remote service is restarted");
            let Some((id, verdict)) = shown.open else {
                return Err(TestCaseError::fail("a restart without an incident"));
            };
            prop_assert_eq!(restart.incident, Some(id));
            prop_assert!(may_restart(spec, verdict), "a restart for {verdict:?}: {}", restart.reason);
            let recent = shown.requests.iter().filter(|then| at.since(**then) < BUDGET_WINDOW).count();
            // Once the budget is spent, there is one more try after each long back-off.
            let waited = shown.requests.last().is_none_or(|then| at.since(*then) >= LONG_BACKOFF);
            let is_late_try = verdict == Verdict::CrashLoop && waited;
            prop_assert!(
                recent < spec.restart.budget as usize || is_late_try,
                "{recent} restarts in {BUDGET_WINDOW:?} before one for {verdict:?}"
            );
            shown.requests.push(*at);
        }
    }
    Ok(())
}

/// Each outcome is of one restart that was requested.
fn outcomes_are_of_requests(trial: &Trial) -> Result<(), TestCaseError> {
    for id in (0..).map(ServiceId).take(services().len()) {
        let is_request = |it: &&Effect| matches!(it, Effect::Restart { service, .. } if *service == id);
        let requests = trial.lab.requested.iter().filter(is_request).count();
        let is_outcome =
            |it: &&&Restart| it.service == id && matches!(it.action, Action::Done | Action::Fail(_));
        let outcomes = trial.lab.restarts().iter().filter(is_outcome).count();
        prop_assert!(outcomes <= requests, "{outcomes} outcomes of {requests} restarts");
    }
    Ok(())
}

fn may_restart(spec: &config::Service, verdict: Verdict) -> bool {
    let asked = |response| response == config::Response::Restart;
    match rules::of(verdict).action {
        DefaultAction::Restart => true,
        // The policy asks for it; a crash loop tries again after its long back-off.
        DefaultAction::Hold | DefaultAction::Alert | DefaultAction::Nothing => {
            verdict == Verdict::CrashLoop
                || verdict == Verdict::WorkerDied && asked(spec.policy.worker_died)
                || verdict == Verdict::PoolExhausted && asked(spec.policy.pool_exhausted)
                || verdict == Verdict::MemoryFull && asked(spec.policy.memory_full)
                || verdict == Verdict::BacklogFull && asked(spec.policy.backlog_full)
                || verdict == Verdict::Exhausting && asked(spec.policy.exhausting)
        }
    }
}

/// An alert that something is over follows one that it began, and each that began ends with its incident.
fn alerts_are_paired(trial: &Trial) -> Result<(), TestCaseError> {
    let mut firing: Vec<IncidentId> = Vec::new();
    for effect in &trial.lab.requested {
        if let Effect::Alert { incident, resolved } = effect {
            if *resolved {
                prop_assert!(firing.contains(&incident.id), "resolved, but never fired");
                firing.retain(|id| *id != incident.id);
            } else if !firing.contains(&incident.id) {
                firing.push(incident.id);
            }
        }
    }
    let is_open = |id: &IncidentId| {
        let resolves =
            |fact: &Fact| matches!(fact, Fact::Incident(Phase::Resolve, incident) if incident.id == *id);
        !trial.lab.published.iter().any(resolves)
    };
    prop_assert!(firing.iter().all(is_open), "an alert fires for an incident that is over");
    Ok(())
}

/// Every service runs and listens.
fn start_all(trial: &mut Trial) {
    for (id, spec) in (0..).map(ServiceId).zip(&services()) {
        let (now, main) = (trial.lab.now, process(500 + id.0));
        let order = |kind| order(kind, now);
        trial.see(Observation::Operator(id, OperatorCommand::Start(order(CommandKind::Start))));
        trial.see(Observation::Operator(id, OperatorCommand::Resume(order(CommandKind::Resume))));
        if matches!(spec.identity, Identity::Unit(_)) {
            let state = UnitState {
                at: now,
                load: "loaded".into(),
                active: "active".into(),
                sub: "running".into(),
                main: Some(main),
                main_pid: main.pid,
                ..UnitState::default()
            };
            trial.see(Observation::Unit(id, state));
        }
        trial.see(Observation::RestartOutcome(id, Ok(())));
        trial.see(Observation::Snapshot(id, Ok("/snapshot".into())));
        trial.see(Observation::Examined(id, Some(at_work())));
        trial.see(Observation::PortHolder(id, None));
        trial.see(Observation::Holders(id, vec![]));
        if !matches!(spec.identity, Identity::Remote) {
            trial.see(Observation::Running(id, main));
            trial.see(Observation::Listening(id, vec![8080]));
        }
    }
}

/// Every service runs, listens and answers for two hours.
fn heal(trial: &mut Trial) -> Result<(), TestCaseError> {
    let specs = services();
    for round in 0..720_u32 {
        trial.wait(Duration::from_secs(10))?;
        let now = trial.lab.now;
        trial.see(Observation::Pressure(Pressure { at: now, ..Pressure::default() }));
        if round == 0 {
            start_all(trial);
        }
        for (id, spec) in (0..).map(ServiceId).zip(&specs) {
            trial.see(Observation::Usage(id, ResourceUsage::default()));
            for index in 0..spec.probes.len() {
                let (at, duration) = (trial.lab.now, Duration::from_millis(1));
                let (kind, target) = (ProbeKind::Http, String::new());
                let outcome = ProbeOutcome::Ok;
                let report = ProbeReport {
                    service: id,
                    index,
                    at,
                    kind,
                    target,
                    duration,
                    outcome,
                    hurried: None,
                    remark: None,
                    server: None,
                };
                trial.see(Observation::Probe(report));
            }
        }
    }
    Ok(())
}

fn nothing_stays_open(trial: &Trial) -> Result<(), TestCaseError> {
    let mut open: HashMap<IncidentId, (ServiceId, Verdict, String)> = HashMap::new();
    for fact in &trial.lab.published {
        if let Fact::Incident(phase, incident) = fact {
            let what = (incident.service, incident.verdict, incident.summary.to_string());
            match phase {
                Phase::Open | Phase::Update => open.insert(incident.id, what),
                Phase::Resolve => open.remove(&incident.id),
            };
        }
    }
    prop_assert!(open.is_empty(), "still open, although all is well: {open:?}");
    for (view, spec) in trial.lab.engine.view().zip(services()) {
        prop_assert_eq!(view.state, ServiceState::Healthy, "{:?}", spec.identity);
    }
    Ok(())
}

fn holds(steps: &[Step]) -> Result<(), TestCaseError> {
    let trial = Trial::new(false).run(steps)?;
    facts_are_consistent(&trial)?;
    outcomes_are_of_requests(&trial)?;
    alerts_are_paired(&trial)?;
    let decisions = trial.decisions();
    prop_assert_eq!(&Trial::new(false).run(steps)?.decisions(), &decisions, "another run decides otherwise");
    prop_assert_eq!(&Trial::new(true).run(steps)?.decisions(), &decisions, "a replay decides otherwise");
    let mut trial = trial;
    heal(&mut trial)?;
    facts_are_consistent(&trial)?;
    outcomes_are_of_requests(&trial)?;
    alerts_are_paired(&trial)?;
    nothing_stays_open(&trial)
}

/// The minutes that `cargo xtask properties` asks for.
fn until() -> Option<Instant> {
    let minutes: u64 = env::var("HOSTPROBE_PROPERTIES_MINUTES").ok()?.parse().ok()?;
    Some(Instant::now() + Duration::from_secs(60 * minutes))
}

/// Runs a property on random steps, always the same ones or, for `cargo xtask properties`, others until its time is over.
fn check(longest: u32, property: impl Fn(&[Step]) -> Result<(), TestCaseError>) {
    let config = Config {
        cases: 64,
        failure_persistence: None,
        max_shrink_iters: 4096,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let run = |mut runner: TestRunner| {
        let outcome = runner.run(&steps(longest), |steps| property(&steps));
        outcome.unwrap_or_else(|failure| panic!("{failure}"));
    };
    let Some(end) = until() else {
        let same_each_time = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        return run(TestRunner::new_with_rng(config, same_each_time));
    };
    while Instant::now() < end {
        run(TestRunner::new(config.clone()));
    }
}

#[test]
fn whatever_happens_restarts_are_justified_incidents_end_and_a_replay_decides_the_same() {
    check(1_200_000, holds);
}

/// An observation while all processes live, in which probes fail only in ways that a restart cannot mend.
fn is_unmendable(seen: &Observation) -> bool {
    if let Observation::Probe(ProbeReport { outcome: ProbeOutcome::Failed(failure, _), .. }) = seen {
        return matches!(rules::of_failure(*failure).mend, rules::Mend::Hold | rules::Mend::Nothing);
    }
    matches!(
        seen,
        Observation::Probe(_)
            | Observation::Usage(..)
            | Observation::Levels(..)
            | Observation::Pressure(_)
            | Observation::Connected { .. }
            | Observation::SocketError(..)
            | Observation::Retransmits(..)
    )
}

/// A hold is not shown by a fact alone: a restart in its place would leave no trace of it. So only failures are observed
/// that are to be held.
fn nothing_is_restarted(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut trial = Trial::new(false);
    start_all(&mut trial);
    for (wait, seed) in steps {
        trial.wait(Duration::from_millis((*wait).into()))?;
        let mut random = Random::new(*seed);
        let unmendable = (0..20).map(|_| observation(&mut random, trial.lab.now)).find(is_unmendable);
        if let Some(seen) = unmendable {
            trial.see(seen);
        }
    }
    for fact in &trial.lab.published {
        if let Fact::Restart(restart) = fact {
            prop_assert!(restart.action != Action::Request, "restarted: {}", restart.reason);
        }
    }
    Ok(())
}

#[test]
fn what_a_restart_cannot_mend_is_not_restarted() {
    check(1_200_000, nothing_is_restarted);
}

#[test]
fn a_recorded_observation_is_the_same_after_it_was_read_again() {
    let name = |id: ServiceId| format!("s{}", id.0);
    let find = |name: &str| name.strip_prefix('s')?.parse().ok().map(ServiceId);
    let config = Config { cases: 2000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let read_again = |seed: u64| {
        let seen = observation(&mut Random::new(seed), at(1000));
        let (portable, names) = named(seen.clone(), name);
        let line =
            serde_json::to_string(&portable).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let read = serde_json::from_str(&line).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(format!("{:?}", placed(read, &names, find)), format!("{:?}", Ok::<_, String>(seen)));
        Ok(())
    };
    runner.run(&any::<u64>(), read_again).unwrap_or_else(|failure| panic!("{failure}"));
}

/// A longer run has found this input.
#[test]
fn two_faults_of_the_host_are_two_incidents() {
    let steps = [(0, 11_912_677_394_432_089_969), (1398, 16_255_155_570_342_519_926)];
    holds(&steps).unwrap_or_else(|failure| panic!("{failure}"));
}
