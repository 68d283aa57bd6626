//! Behaviour of the engine: what is observed, what is said, what is done.

mod deaths;
mod probes;
mod units;

use std::{path::PathBuf, time::Duration};

use super::*;
use crate::{
    config::{Exec, Identity, Limits, Probe, RestartPolicy, Secret},
    fact::{
        Action, ExitStatus, Phase, ProbeFailure, ProbeKind, ProbeOutcome, Process, Restart, Sender, Severity,
        Source, UnitJob, Verdict,
    },
};

const API: ServiceId = ServiceId(0);
const SYSTEMD: u32 = 1;

/// A service under test, the engine, and all it said and asked for.
struct Lab {
    engine: Engine,
    now: Timestamp,
    said: Vec<Fact>,
    asked: Vec<Effect>,
}

impl Outbox for Lab {
    fn emit(&mut self, fact: Fact, _at: Timestamp) -> EventId {
        self.said.push(fact);
        EventId(self.said.len() as u64)
    }

    fn act(&mut self, effect: Effect) {
        self.asked.push(effect);
    }
}

impl Lab {
    fn new(identity: Identity, probes: Vec<Probe>, restart: RestartPolicy) -> Self {
        Self::told(false, identity, probes, restart)
    }

    /// With the engine told to `observe` only, or not.
    fn told(observe: bool, identity: Identity, probes: Vec<Probe>, restart: RestartPolicy) -> Self {
        let service = config::Service {
            name: "api".into(),
            identity,
            depends_on: vec![],
            critical: true,
            probes,
            restart,
            limits: Limits { threads: Some(10), ..Limits::default() },
        };
        let now = at(1000);
        let engine = Engine::new(&[service], observe, now);
        let mut lab = Self { engine, now, said: vec![], asked: vec![] };
        lab.see(Observation::Running(API, process(100)));
        lab.answer(ProbeOutcome::Ok);
        lab.said.clear();
        lab.asked.clear();
        lab
    }

    fn exec() -> Self {
        Self::new(exec_identity(), vec![http_probe()], policy())
    }

    fn see(&mut self, observation: Observation) {
        let mut engine = std::mem::replace(&mut self.engine, Engine::new(&[], false, self.now));
        engine.observe(self.now, observation, self);
        self.engine = engine;
    }

    /// Lets time pass, with every deadline kept.
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
        self.now = self.now.plus(Duration::from_millis(5));
        self.see(Observation::Probe(ProbeReport {
            service: API,
            index: 0,
            at: self.now,
            kind: ProbeKind::Http,
            target: "http://127.0.0.1:8080/".into(),
            duration: Duration::from_millis(1),
            outcome,
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

    /// The restart is carried out, and the service answers as `pid`.
    fn comes_back(&mut self, pid: u32) {
        self.see(Observation::Restarted(API, Ok(())));
        self.see(Observation::Running(API, process(pid)));
        self.answer(ProbeOutcome::Ok);
    }

    fn incidents(&self) -> Vec<(Phase, Verdict, Severity)> {
        let mut incidents = Vec::new();
        for fact in &self.said {
            if let Fact::Incident(phase, incident) = fact {
                incidents.push((*phase, incident.verdict, incident.severity));
            }
        }
        incidents
    }

    fn restarts(&self) -> Vec<&Restart> {
        self.said
            .iter()
            .filter_map(|fact| if let Fact::Restart(restart) = fact { Some(restart) } else { None })
            .collect()
    }

    fn restarts_asked(&self) -> usize {
        self.asked.iter().filter(|effect| matches!(effect, Effect::Restart { .. })).count()
    }

    fn alerts(&self) -> Vec<(Verdict, Severity, bool)> {
        let mut alerts = Vec::new();
        for effect in &self.asked {
            if let Effect::Alert { incident, resolved } = effect {
                alerts.push((incident.verdict, incident.severity, *resolved));
            }
        }
        alerts
    }

    fn state(&self) -> ServiceState {
        self.engine.view().next().unwrap().state
    }
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
    Sender::Process { pid: 4000, name: "bash".into(), user_id: 0, unit: None }
}

fn exit(pid: u32, at: Timestamp, status: ExitStatus, sender: Option<Sender>) -> ProcessExit {
    let signal = match status {
        ExitStatus::Signal { number, .. } => Some(number),
        ExitStatus::Code(_) => None,
    };
    ProcessExit {
        at,
        source: Source::Ebpf,
        process: Process {
            key: process(pid),
            parent_pid: 1,
            name: "api".into(),
            executable: None,
            command_line: None,
            user_id: 0,
            cgroup: None,
            container_id: None,
            namespace_pid: None,
        },
        status,
        sent_signal: sender.as_ref().and(signal),
        sender,
        oom: false,
        max_rss_bytes: 0,
    }
}

fn exec_identity() -> Identity {
    let command = vec!["/usr/bin/api".into()];
    Identity::Exec(Exec { command, output: PathBuf::from("/var/log/api.log"), directory: PathBuf::from("/") })
}

fn policy() -> RestartPolicy {
    RestartPolicy { enabled: true, ..RestartPolicy::default() }
}

fn http_probe() -> Probe {
    Probe {
        kind: ProbeKind::Http,
        target: Secret::new("http://127.0.0.1:8080/"),
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(5),
        failures: 3,
        slow: Some(Duration::from_secs(2)),
        expect_status: vec![],
        expect_body: None,
        memory_percent: None,
        auth_is_alive: false,
    }
}
<<<<<<< HEAD

fn running_unit(pid: u32) -> UnitState {
    UnitState {
        at: at(1000),
        load: "loaded".into(),
        active: "active".into(),
        sub: "running".into(),
        result: "success".into(),
        invocation_id: format!("run of {pid}"),
        restart_delay: Duration::from_secs(10),
        restarts_itself: true,
        start_limit: (5, Duration::from_secs(10)),
        main: Some(process(pid)),
        main_pid: pid,
        main_started: Some(process(pid).start),
        manager_pid: SYSTEMD,
        ..UnitState::default()
    }
}

fn later(moment: Timestamp, micros: i64) -> Option<Timestamp> {
    Some(Timestamp::from_nanos(moment.as_nanos().saturating_add_signed(micros * 1000)))
}

/// The unit whose main process `pid` ended at `died`, as systemd shows it a moment later.
fn waiting_unit(pid: u32, died: Timestamp, restart_delay: Duration) -> UnitState {
    UnitState {
        at: later(died, 1000).unwrap(),
        active: "activating".into(),
        sub: "auto-restart".into(),
        result: "signal".into(),
        restart_delay,
        main: None,
        main_pid: 0,
        main_exited: later(died, 400),
        active_exit: later(died, 500),
        changed: later(died, 500),
        ..running_unit(pid)
    }
}

#[test]
fn a_kill_is_one_incident_one_restart_one_resolve() {
    let mut lab = Lab::exec();
    lab.killed(100);
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Killed, Severity::Critical)]);
    assert_eq!(lab.restarts_asked(), 1);
    assert_eq!(lab.state(), ServiceState::Starting);
    lab.comes_back(101);
    assert_eq!(lab.incidents().last(), Some(&(Phase::Resolve, Verdict::Killed, Severity::Info)));
    assert_eq!(lab.incidents().len(), 2);
    assert_eq!(lab.state(), ServiceState::Healthy);
    let Some(Fact::Incident(_, incident)) = lab.said.iter().find(|fact| matches!(fact, Fact::Incident(..)))
    else {
        panic!("no incident")
    };
    assert!(incident.summary.contains("SIGKILL from bash (pid 4000, uid 0)"), "{}", incident.summary);
    assert_eq!(incident.evidence, [EventId(900)]);
}

#[test]
fn who_sent_the_signal_decides_between_crashed_and_killed() {
    let verdict = |status, sender| {
        let mut lab = Lab::exec();
        lab.die(100, status, sender);
        lab.incidents()[0].1
    };
    assert_eq!(verdict(SEGV, Some(Sender::Kernel)), Verdict::Crashed);
    assert_eq!(verdict(SEGV, Some(Sender::Itself)), Verdict::Crashed);
    assert_eq!(verdict(SEGV, Some(bash())), Verdict::Killed);
    assert_eq!(verdict(SEGV, None), Verdict::Crashed);
    assert_eq!(verdict(KILL, None), Verdict::Killed);
    assert_eq!(verdict(ExitStatus::Code(0), None), Verdict::Exited);
    assert_eq!(verdict(ExitStatus::Code(3), Some(bash())), Verdict::Exited);
}

#[test]
fn an_incident_healed_at_once_alerts_as_info_only() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.comes_back(101);
    assert_eq!(
        lab.alerts(),
        [(Verdict::Killed, Severity::Info, false), (Verdict::Killed, Severity::Info, true)]
    );
}

#[test]
fn an_incident_that_lasts_alerts_loudly_once() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.see(Observation::Restarted(API, Ok(())));
    lab.see(Observation::Running(API, process(101)));
    lab.wait(Duration::from_secs(60));
    assert_eq!(lab.alerts(), [(Verdict::Killed, Severity::Critical, false)]);
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.alerts()[1..], [(Verdict::Killed, Severity::Critical, true)]);
}

#[test]
fn a_spent_budget_is_a_crash_loop_that_is_tried_again_after_long() {
    let mut lab = Lab::exec();
    for pid in 100..105 {
        lab.killed(pid);
        lab.comes_back(pid + 1);
    }
    lab.killed(105);
    assert_eq!(lab.restarts_asked(), 5);
    assert_eq!(lab.incidents().last(), Some(&(Phase::Update, Verdict::CrashLoop, Severity::Critical)));
    assert!(matches!(&lab.restarts().last().unwrap().action, Action::Hold(why) if why.contains("5 per 10m")));
    assert_eq!(lab.state(), ServiceState::Down);
    lab.wait(Duration::from_secs(299));
    assert_eq!(lab.restarts_asked(), 5);
    lab.wait(Duration::from_secs(2));
    assert_eq!(lab.restarts_asked(), 6);
    lab.comes_back(106);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
}

#[test]
fn restarts_in_a_row_back_off() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.see(Observation::Restarted(API, Ok(())));
    lab.see(Observation::Running(API, process(101)));
    lab.killed(101);
    assert_eq!(lab.restarts_asked(), 1);
    assert!(
        matches!(&lab.restarts().last().unwrap().action, Action::Hold(why) if why.contains("1s before attempt 2"))
    );
    lab.wait(Duration::from_millis(999));
    assert_eq!(lab.restarts_asked(), 1);
    lab.wait(Duration::from_millis(2));
    assert_eq!(lab.restarts_asked(), 2);
}

#[test]
fn a_restart_that_cannot_be_made_is_tried_again() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.see(Observation::Restarted(API, Err("No such file".into())));
    assert!(lab.restarts().iter().any(|restart| matches!(&restart.action, Action::Fail(_))));
    lab.wait(Duration::from_secs(1));
    assert_eq!(lab.restarts_asked(), 2);
}

#[test]
fn without_leave_to_restart_it_only_watches() {
    let mut lab = Lab::new(exec_identity(), vec![http_probe()], RestartPolicy::default());
    lab.killed(100);
    assert_eq!(lab.restarts_asked(), 0);
    assert!(matches!(&lab.restarts()[0].action, Action::Hold(why) if why.contains("not enabled")));
    assert_eq!(lab.alerts(), [(Verdict::Killed, Severity::Critical, false)]);
    lab.see(Observation::Running(API, process(101)));
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
}

#[test]
fn told_to_observe_it_says_why_it_holds() {
    let mut lab = Lab::told(true, exec_identity(), vec![http_probe()], policy());
    lab.killed(100);
    assert!(
        matches!(&lab.restarts()[..], [Restart { action: Action::Hold(why), .. }] if why.contains("--observe"))
    );
    assert_eq!((lab.restarts_asked(), lab.state()), (0, ServiceState::Down));
}

#[test]
fn probes_count_only_in_a_row_and_after_the_grace() {
    let mut lab = Lab::exec();
    for _ in 0..5 {
        lab.refuse();
    }
    assert_eq!(lab.incidents(), []);
    lab.wait(Duration::from_secs(30));
    lab.refuse();
    lab.refuse();
    lab.answer(ProbeOutcome::Ok);
    lab.refuse();
    lab.refuse();
    assert_eq!(lab.incidents(), []);
    lab.refuse();
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::NotListening, Severity::Critical)]);
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn counters_start_afresh_after_a_restart() {
    let mut lab = Lab::exec();
    lab.wait(Duration::from_secs(30));
    lab.refuse();
    lab.refuse();
    lab.killed(100);
    lab.comes_back(101);
    lab.wait(Duration::from_secs(30));
    lab.refuse();
    lab.refuse();
    assert_eq!(lab.incidents().len(), 2, "the failures before the restart must not count");
}

#[test]
fn a_restarted_service_that_says_it_is_loading_is_shown_with_its_words() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.see(Observation::Restarted(API, Ok(())));
    lab.see(Observation::Running(API, process(101)));
    lab.answer(ProbeOutcome::Starting("LOADING 40 %".into()));
    let view = lab.engine.view().next().unwrap();
    assert_eq!(view.state, ServiceState::Starting);
    assert_eq!(view.error.as_deref(), Some("it says it is starting: LOADING 40 %"));
    assert!(view.incident.is_some(), "its incident is over only once it has loaded");
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.engine.view().next().unwrap().incident, None);
}

#[test]
fn a_service_that_says_it_is_loading_is_starting_not_failing() {
    let mut lab = Lab::exec();
    lab.wait(Duration::from_secs(60));
    for _ in 0..10 {
        lab.answer(ProbeOutcome::Starting("LOADING".into()));
    }
    assert_eq!(lab.incidents(), []);
    assert_eq!(lab.state(), ServiceState::Starting);
}

#[test]
fn a_wrong_password_is_not_mended_by_a_restart() {
    let mut lab = Lab::exec();
    lab.wait(Duration::from_secs(60));
    for _ in 0..3 {
        lab.answer(ProbeOutcome::Failed(ProbeFailure::Auth, "password refused".into()));
    }
    assert_eq!(lab.incidents()[0].1, Verdict::Unhealthy);
    assert_eq!(lab.restarts_asked(), 0);
}

#[test]
fn an_answer_to_the_process_before_does_not_prove_the_new_one_well() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.see(Observation::Restarted(API, Ok(())));
    lab.see(Observation::Running(API, process(101)));
    let stale = ProbeReport {
        service: API,
        index: 0,
        at: lab.now.plus(Duration::from_millis(1)),
        kind: ProbeKind::Http,
        target: String::new(),
        duration: Duration::from_millis(20),
        outcome: ProbeOutcome::Ok,
    };
    lab.see(Observation::Probe(stale));
    assert_eq!(lab.incidents().len(), 1);
}

fn listener(lab: &Lab, up: bool) -> Observation {
    let listener =
        Listener { at: lab.now, up, address: [127, 0, 0, 1].into(), port: 8080, process: process(100) };
    Observation::Listener(listener, API, EventId(901))
}

#[test]
fn a_listener_that_stays_away_is_not_listening() {
    let mut lab = Lab::exec();
    lab.see(listener(&lab, true));
    lab.see(listener(&lab, false));
    lab.wait(Duration::from_millis(300));
    assert_eq!(lab.incidents()[0].1, Verdict::NotListening);
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn a_listener_that_is_reopened_or_whose_process_dies_is_not_not_listening() {
    let mut lab = Lab::exec();
    lab.see(listener(&lab, true));
    lab.see(listener(&lab, false));
    lab.see(listener(&lab, true));
    lab.wait(Duration::from_secs(1));
    assert_eq!(lab.incidents(), []);
    lab.see(listener(&lab, false));
    lab.killed(100);
    lab.wait(Duration::from_millis(300));
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Killed, Severity::Critical)]);
}

#[test]
fn a_listener_older_than_the_daemon_is_missed_too_and_one_of_two_is_not() {
    let mut lab = Lab::exec();
    lab.see(Observation::Listening(API, vec![8080, 8080]));
    lab.see(listener(&lab, false));
    lab.wait(Duration::from_secs(1));
    assert_eq!(lab.incidents(), []);
    lab.see(listener(&lab, false));
    lab.wait(Duration::from_secs(1));
    assert_eq!(lab.incidents()[0].1, Verdict::NotListening);
}

#[test]
fn a_probe_that_still_succeeds_proves_that_something_listens() {
    let mut lab = Lab::exec();
    lab.see(listener(&lab, true));
    lab.see(listener(&lab, false));
    lab.answer(ProbeOutcome::Ok);
    lab.wait(Duration::from_secs(1));
    assert_eq!(lab.incidents(), []);
}

#[test]
fn a_limit_exceeded_is_degraded() {
    let mut lab = Lab::exec();
    lab.see(Observation::Usage(API, Usage { threads: 11, ..Usage::default() }));
    assert_eq!(lab.state(), ServiceState::Degraded);
    lab.see(Observation::Usage(API, Usage { threads: 10, ..Usage::default() }));
    assert_eq!(lab.state(), ServiceState::Healthy);
}

#[test]
fn a_service_without_probes_is_well_once_it_has_stayed_up() {
    let mut lab = Lab::new(exec_identity(), vec![], policy());
    lab.killed(100);
    lab.see(Observation::Restarted(API, Ok(())));
    lab.see(Observation::Running(API, process(101)));
    lab.wait(Duration::from_millis(900));
    assert_eq!(lab.incidents().len(), 1);
    lab.wait(Duration::from_millis(200));
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
}

#[test]
fn a_unit_that_waits_out_its_restart_delay_is_restarted_at_once() {
    let mut lab = Lab::unit();
    lab.killed(100);
    assert_eq!(lab.restarts_asked(), 0, "systemd is asked first");
    assert!(lab.asked.contains(&Effect::InspectUnit(API)));
    let died = lab.now;
    lab.see(Observation::Unit(API, running_unit(100)));
    assert_eq!(lab.restarts_asked(), 0, "systemd has not taken note yet");
    lab.wait(Duration::from_millis(5));
    lab.see(Observation::Unit(API, waiting_unit(100, died, Duration::from_secs(10))));
    assert_eq!(lab.restarts_asked(), 1);
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Killed, Severity::Critical)]);
    lab.see(Observation::Restarted(API, Ok(())));
    lab.see(Observation::Unit(API, running_unit(101)));
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
}

#[test]
fn a_unit_that_systemd_restarts_at_once_is_left_to_it() {
    let mut lab = Lab::unit();
    lab.killed(100);
    lab.see(Observation::Unit(API, waiting_unit(100, lab.now, Duration::ZERO)));
    assert!(
        matches!(&lab.restarts()[0].action, Action::Hold(why) if why.contains("systemd restarts it itself"))
    );
    lab.wait(Duration::from_millis(30));
    lab.see(Observation::Unit(API, running_unit(101)));
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.restarts_asked(), 0);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
}

#[test]
fn a_unit_that_systemd_fails_to_restart_is_ours() {
    let mut lab = Lab::unit();
    lab.killed(100);
    let died = lab.now;
    lab.see(Observation::Unit(API, waiting_unit(100, died, Duration::ZERO)));
    lab.wait(Duration::from_millis(600));
    let failed = UnitState {
        active: "failed".into(),
        sub: "failed".into(),
        result: "start-limit-hit".into(),
        ..waiting_unit(100, died, Duration::ZERO)
    };
    lab.see(Observation::Unit(API, failed));
    let restart = lab.asked.iter().find(|effect| matches!(effect, Effect::Restart { .. }));
    let expected = Effect::Restart { service: API, method: RestartMethod::Systemd, reset_failed: true };
    assert_eq!(restart, Some(&expected));
}

#[test]
fn a_requested_stop_is_stopped_and_nothing_is_done() {
    let by_job = |died| UnitState {
        job: Some(UnitJob { id: 7, kind: "stop".into() }),
        ..waiting_unit(100, died, Duration::from_secs(10))
    };
    let by_timestamp = |died: Timestamp| UnitState {
        active: "inactive".into(),
        sub: "dead".into(),
        result: "success".into(),
        active_exit: later(died, -1000),
        ..waiting_unit(100, died, Duration::from_secs(10))
    };
    for state in [by_job as fn(Timestamp) -> UnitState, by_timestamp] {
        let mut lab = Lab::unit();
        lab.now = at(2000);
        lab.die(100, ExitStatus::Code(0), None);
        lab.see(Observation::Unit(API, state(lab.now)));
        assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Stopped, Severity::Info)]);
        assert_eq!((lab.restarts_asked(), lab.alerts().len()), (0, 0));
        assert_eq!(lab.state(), ServiceState::Stopped);
        lab.wait(Duration::from_secs(3600));
        assert_eq!((lab.restarts_asked(), lab.alerts().len()), (0, 0));
        lab.see(Observation::Unit(API, running_unit(101)));
        lab.answer(ProbeOutcome::Ok);
        assert_eq!(lab.incidents().last().unwrap(), &(Phase::Resolve, Verdict::Stopped, Severity::Info));
        assert_eq!(lab.alerts(), []);
    }
}

#[test]
fn a_sigterm_from_the_manager_is_a_stop() {
    let mut lab = Lab::unit();
    let manager = Sender::Process { pid: SYSTEMD, name: "systemd".into(), user_id: 0, unit: None };
    lab.die(100, ExitStatus::Signal { number: 15, core_dumped: false }, Some(manager));
    lab.see(Observation::Unit(API, waiting_unit(100, lab.now, Duration::from_secs(10))));
    assert_eq!(lab.incidents()[0].1, Verdict::Stopped);
    assert_eq!(lab.restarts_asked(), 0);
}

#[test]
fn a_restart_job_that_has_already_led_to_a_new_process_is_stopped_then_well() {
    let mut lab = Lab::unit();
    lab.now = at(2000);
    lab.die(100, ExitStatus::Code(0), None);
    let anew = UnitState {
        active_exit: later(lab.now, -1000),
        main_started: later(lab.now, 3000),
        ..running_unit(101)
    };
    lab.see(Observation::Unit(API, anew));
    lab.answer(ProbeOutcome::Ok);
    let verdicts: Vec<_> = lab.incidents().into_iter().map(|(phase, verdict, _)| (phase, verdict)).collect();
    assert_eq!(verdicts, [(Phase::Open, Verdict::Stopped), (Phase::Resolve, Verdict::Stopped)]);
    assert_eq!(lab.restarts_asked(), 0);
}

#[test]
fn without_systemds_word_a_unit_is_not_touched() {
    let mut lab = Lab::unit();
    lab.killed(100);
    lab.see(Observation::UnitUnknown(API, "the bus is gone".into()));
    assert_eq!(lab.incidents()[0].1, Verdict::Killed);
    assert_eq!(lab.restarts_asked(), 0);
}

#[test]
fn restarts_stay_below_the_units_own_start_limit() {
    let mut lab = Lab::unit();
    for pid in 100..105 {
        lab.killed(pid);
        lab.see(Observation::Unit(API, waiting_unit(pid, lab.now, Duration::from_secs(10))));
        lab.see(Observation::Restarted(API, Ok(())));
        lab.see(Observation::Unit(API, running_unit(pid + 1)));
        lab.answer(ProbeOutcome::Ok);
    }
    let mut resets = Vec::new();
    for effect in &lab.asked {
        if let Effect::Restart { reset_failed, .. } = effect {
            resets.push(*reset_failed);
        }
    }
    assert_eq!(resets, [false, false, false, true, true], "five starts in ten seconds are the unit's limit");
    lab.killed(105);
    lab.see(Observation::Unit(API, waiting_unit(105, lab.now, Duration::from_secs(10))));
    assert_eq!(lab.incidents().last().unwrap().1, Verdict::CrashLoop);
    assert!(lab.asked.contains(&Effect::ResetFailed(API)));
}
=======
>>>>>>> main
