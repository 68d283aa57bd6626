//! What other programs do with a service: who asked for a stop, and who restarts it again and again.

use super::{unit_states::down, units::running_unit, *};
use crate::fact::{Account, Actor, OperatorCommand, OutsideRequest, RequestVerb};

/// The window in which restarts count.
const WINDOW: Duration = Duration::from_secs(600);

fn actor(lab: &Lab, command: &str, terminal: Option<&str>) -> Actor {
    Actor {
        at: lab.now,
        pid: 7000,
        name: command.split(' ').next().unwrap_or_default().to_owned(),
        command_line: Some(command.to_owned()),
        user: Account { id: 1000, name: Some("alice".to_owned()) },
        login: None,
        terminal: terminal.map(str::to_owned),
        unit: None,
        ancestors: vec![],
        fingerprint: 0,
    }
    .with_fingerprint()
}

fn asks(lab: &mut Lab, verb: RequestVerb, command: &str, terminal: Option<&str>) {
    let actor = actor(lab, command, terminal);
    lab.see(Observation::OutsideRequest(API, Box::new(OutsideRequest { verb, actor })));
}

/// systemd takes the unit out of its active state, then ends its main process.
fn stops(lab: &mut Lab, pid: u32) {
    let job = Some(UnitJob { id: 7, kind: "stop".into() });
    let sub = "stop-sigterm".into();
    let active_exit = Some(lab.now);
    lab.see(Observation::Unit(
        API,
        UnitState { active: "deactivating".into(), sub, job, active_exit, ..running_unit(pid) },
    ));
    let by_systemd =
        Sender::Process { pid: SYSTEMD, name: "systemd".into(), user_id: 0, unit: None, terminal: false };
    lab.die(pid, ExitStatus::Signal { number: 15, core_dumped: false }, Some(by_systemd));
    lab.see(Observation::Unit(API, down("inactive", "success", pid, lab.now, -500)));
}

fn restarts(lab: &mut Lab, pid: u32, command: &str, terminal: Option<&str>) {
    asks(lab, RequestVerb::Restart, command, terminal);
    stops(lab, pid);
    lab.see(Observation::Unit(API, running_unit(pid + 1)));
    lab.answer(ProbeOutcome::Ok);
    lab.wait(LATER);
}

fn last_state(lab: &Lab) -> (ServiceState, String) {
    let state = |fact: &Fact| {
        if let Fact::ServiceState(_, state, _, why) = fact { Some((*state, why.clone())) } else { None }
    };
    lab.published.iter().rev().find_map(state).expect("a state")
}

#[test]
fn a_stop_names_who_asked_for_it() {
    let mut lab = Lab::unit();
    asks(&mut lab, RequestVerb::Stop, "systemctl stop api", Some("pts/3"));
    stops(&mut lab, 100);
    let (state, why) = last_state(&lab);
    assert_eq!(state, ServiceState::Stopped);
    assert_eq!(why, "stopped by uid 1000 (alice) on pts/3: systemctl stop api (pid 7000)");
    assert_eq!((lab.incidents(), lab.restarts_asked()), (vec![], 0));
}

#[test]
fn a_stop_that_systemd_reports_before_the_kernel_names_who_asked_for_it() {
    let mut lab = Lab::unit();
    asks(&mut lab, RequestVerb::Stop, "systemctl stop api", Some("pts/3"));
    let stopped = || down("inactive", "success", 100, lab.now, -500);
    let (first, judged) = (stopped(), stopped());
    lab.see(Observation::Unit(API, first));
    let by_systemd =
        Sender::Process { pid: SYSTEMD, name: "systemd".into(), user_id: 0, unit: None, terminal: false };
    lab.die(100, ExitStatus::Signal { number: 15, core_dumped: false }, Some(by_systemd));
    lab.see(Observation::Unit(API, judged));
    let (state, why) = last_state(&lab);
    assert_eq!(state, ServiceState::Stopped);
    assert_eq!(why, "stopped by uid 1000 (alice) on pts/3: systemctl stop api (pid 7000)");
    assert_eq!((lab.incidents(), lab.restarts_asked()), (vec![], 0));
}

#[test]
fn a_stop_without_a_command_says_that_nobody_was_seen() {
    let mut lab = Lab::unit();
    stops(&mut lab, 100);
    assert!(last_state(&lab).1.ends_with("it is not known who asked: no command was seen"));

    let mut lab = Lab::unit();
    asks(&mut lab, RequestVerb::Stop, "systemctl stop api", None);
    lab.wait(LATER);
    stops(&mut lab, 100);
    assert!(last_state(&lab).1.contains("not known"), "that request was refused a minute ago");
}

#[test]
fn a_command_that_is_seen_after_the_stop_is_named_all_the_same() {
    let mut lab = Lab::unit();
    let actor = actor(&lab, "systemctl stop api", None);
    stops(&mut lab, 100);
    lab.see(Observation::OutsideRequest(API, Box::new(OutsideRequest { verb: RequestVerb::Stop, actor })));
    let why = lab.engine.view().next().unwrap().error.unwrap();
    assert!(why.ends_with(": uid 1000 (alice): systemctl stop api (pid 7000)"), "{why}");
}

#[test]
fn an_operator_of_hostprobe_is_named_as_before() {
    let mut lab = Lab::unit();
    let order = order(CommandKind::Stop, lab.now);
    lab.see(Observation::Operator(API, OperatorCommand::Stop(order.clone())));
    stops(&mut lab, 100);
    assert_eq!(last_state(&lab).1, order.to_string());
}

#[test]
fn the_sender_of_a_kill_is_the_actor_of_its_incident() {
    let mut lab = Lab::exec();
    let killer = actor(&lab, "kill -9 100", Some("pts/1"));
    lab.now = lab.now.plus(Duration::from_secs(1));
    let exit =
        ProcessExit { actor: Some(Box::new(killer.clone())), ..exit(100, lab.now, KILL, Some(bash())) };
    lab.see(Observation::Exit(exit, Membership { service: API, main: true }, EventId(900)));
    assert_eq!(lab.incidents()[0].1, Verdict::Killed);
    assert_eq!(lab.engine.incident(API).unwrap().context.actor.as_deref(), Some(&killer));
    lab.see(Observation::Context(API, FaultContext { logs: vec!["x".into()], ..FaultContext::default() }));
    let context = lab.engine.incident(API).unwrap().context;
    assert_eq!((context.actor.as_deref(), context.logs.len()), (Some(&killer), 1), "it stays");
}

#[test]
fn a_kill_through_systemd_names_the_one_who_asked_systemd() {
    let mut lab = Lab::unit();
    asks(&mut lab, RequestVerb::Kill, "systemctl kill -s KILL api", None);
    let by_systemd =
        Sender::Process { pid: SYSTEMD, name: "systemd".into(), user_id: 0, unit: None, terminal: false };
    lab.die(100, KILL, Some(by_systemd));
    lab.see(Observation::Unit(API, down("failed", "signal", 100, lab.now, 500)));
    let actor = lab.engine.incident(API).unwrap().context.actor.unwrap();
    assert_eq!(actor.command_line.as_deref(), Some("systemctl kill -s KILL api"));
}

#[test]
fn a_program_that_restarts_it_in_a_loop_is_an_incident() {
    let mut lab = Lab::unit();
    for pid in 100..103 {
        restarts(&mut lab, pid, "systemctl restart api", None);
    }
    assert_eq!(lab.incidents(), [], "three are no loop");
    restarts(&mut lab, 103, "systemctl restart api", None);
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::RestartedByOther, Severity::Warning)]);
    assert_eq!(lab.alerts(), [(Verdict::RestartedByOther, Severity::Warning, false)]);
    let incident = lab.engine.incident(API).unwrap();
    assert!(
        incident.summary.starts_with("it was restarted 4 times within 10 min by uid 1000 (alice): "),
        "{incident:?}"
    );
    assert!(incident.context.actor.is_some());
    assert_eq!(lab.state(), ServiceState::Degraded);

    lab.wait(WINDOW);
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
    assert_eq!(lab.state(), ServiceState::Healthy);
    assert_eq!(lab.restarts_asked(), 0);
}

#[test]
fn hostprobe_does_not_restart_beside_another_program_until_that_is_quiet() {
    let mut lab = Lab::unit();
    for pid in 100..104 {
        restarts(&mut lab, pid, "systemctl restart api", None);
    }
    lab.killed(104);
    lab.see(Observation::Unit(API, down("failed", "signal", 104, lab.now, 500)));
    assert_eq!(lab.restarts_asked(), 0);
    let held = lab
        .restarts()
        .iter()
        .any(|it| matches!(&it.action, Action::Hold(why) if why.starts_with("something else restarts it")));
    assert!(held, "{:?}", lab.restarts());
    lab.wait(WINDOW);
    lab.see(Observation::Unit(API, down("failed", "signal", 104, at(1), 500)));
    assert_eq!(lab.restarts_asked(), 1, "the other program has not restarted it");
}

#[test]
fn a_person_at_a_terminal_and_different_programs_are_no_loop() {
    let mut lab = Lab::unit();
    for pid in 100..110 {
        restarts(&mut lab, pid, "systemctl restart api", Some("pts/3"));
    }
    for pid in 110..114 {
        restarts(&mut lab, pid, &format!("systemctl restart api --job={pid}"), None);
    }
    assert_eq!(lab.incidents(), []);
}

#[test]
fn a_stop_that_lasts_ends_the_incident_of_a_loop() {
    let mut lab = Lab::unit();
    for pid in 100..104 {
        restarts(&mut lab, pid, "systemctl restart api", None);
    }
    stops(&mut lab, 104);
    lab.wait(WINDOW);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
    assert_eq!((lab.state(), lab.restarts_asked()), (ServiceState::Stopped, 0));
}
