//! Drills: what may begin one, and what differs while it is under way.

use super::*;
use crate::fact::{DrillFault, Observation, OperatorCommand};

const MINUTE: Duration = Duration::from_secs(60);

/// A service that has been healthy for a minute and listens on the port of its probe.
fn healthy() -> Lab {
    of(Lab::exec())
}

fn of(mut lab: Lab) -> Lab {
    lab.see(Observation::Listening(API, vec![8080]));
    lab.wait(LATER);
    lab.answer(ProbeOutcome::Ok);
    lab.published.clear();
    lab.requested.clear();
    lab
}

impl Lab {
    fn obstacle(&mut self, fault: DrillFault) -> Option<String> {
        let now = self.now;
        self.engine.drill_obstacle(API, fault, now)
    }

    /// Why a drill is refused.
    #[track_caller]
    fn refused(&mut self) -> String {
        self.obstacle(DrillFault::Kill).expect("a refusal")
    }

    fn drill(&mut self, fault: DrillFault) {
        let order = order(CommandKind::Drill, self.now);
        self.see(Observation::Operator(API, OperatorCommand::Drill(fault, order)));
    }

    fn give(&mut self, command: OperatorCommand) {
        self.see(Observation::Operator(API, command));
    }
}

#[test]
fn a_healthy_service_may_be_drilled_in_every_way_and_the_daemon_is_asked_to_cause_the_fault_once() {
    let mut lab = healthy();
    for fault in DrillFault::ALL {
        assert_eq!(lab.obstacle(fault), None, "{fault:?}");
    }
    lab.drill(DrillFault::Kill);
    let caused = Effect::CauseFault { service: API, fault: DrillFault::Kill };
    assert_eq!(lab.requested, std::slice::from_ref(&caused));
    assert!(lab.engine.is_in_drill(API));
    assert!(lab.refused().contains("a drill of api is under way"), "one at a time");
    lab.drill(DrillFault::Kill);
    assert_eq!(lab.requested, [caused]);
    lab.give(OperatorCommand::DrillOver);
    assert_eq!(lab.obstacle(DrillFault::Kill), None);
}

#[test]
fn the_incident_of_a_drill_says_so_and_is_restarted_and_alerted_as_any_other() {
    let mut lab = healthy();
    lab.drill(DrillFault::Kill);
    lab.killed(100);
    let incident = lab.engine.incident(API).unwrap();
    assert_eq!((incident.drill.as_deref(), incident.verdict), (Some("root"), Verdict::Killed));
    assert!(
        incident.summary.starts_with("a drill by root: main process 100 was killed"),
        "{}",
        incident.summary
    );
    assert_eq!(lab.restarts_asked(), 1);
    lab.comes_back(101);
    let alerts: Vec<_> = lab.alerts().into_iter().map(|(_, _, resolved)| resolved).collect();
    assert_eq!((lab.state(), alerts), (ServiceState::Healthy, vec![false, true]));
    lab.give(OperatorCommand::DrillOver);
    lab.wait(MINUTE);
    lab.killed(101);
    let incident = lab.engine.incident(API).unwrap();
    assert_eq!(incident.drill, None, "a later fault is none of the drill's");
    assert!(!incident.summary.contains("drill"), "{}", incident.summary);
}

#[test]
fn a_stop_by_a_drill_is_a_hang_that_probes_have_to_find() {
    let stopped = || {
        let stopped = Examination {
            stopped: true,
            threads: 4,
            over: Duration::from_millis(200),
            ..Examination::default()
        };
        Observation::Examined(API, Some(stopped))
    };
    let suspended = |at| {
        let sender = Some(Sender::Process {
            pid: 7,
            name: "hostprobe".into(),
            user_id: 0,
            unit: None,
            terminal: true,
        });
        let stop = Suspension { at, process: process(100), signal: 19, sender };
        Observation::Suspended(stop, API, EventId(901))
    };
    let mut lab = healthy();
    lab.drill(DrillFault::Hang);
    lab.see(suspended(lab.now));
    lab.see(stopped());
    lab.wait(MINUTE);
    assert_eq!(lab.incidents(), [], "nothing but a probe shows it");
    for _ in 0..3 {
        lab.answer(ProbeOutcome::Failed(ProbeFailure::Timeout, "no answer".into()));
        lab.see(stopped());
    }
    let incident = lab.engine.incident(API).unwrap();
    assert_eq!((incident.verdict, incident.drill.as_deref()), (Verdict::Hung, Some("root")));
    assert!(!incident.summary.contains("state T"), "{}", incident.summary);
    lab.see(snapshot());
    assert_eq!(lab.restarts_asked(), 1);

    // Without a drill, the same stop at a terminal is on purpose.
    let mut lab = healthy();
    lab.see(suspended(lab.now));
    lab.see(stopped());
    assert_eq!(lab.engine.incident(API).unwrap().verdict, Verdict::Paused);
}

#[test]
fn a_drill_needs_a_service_that_hostprobe_restarts() {
    let watched = RestartPolicy::default();
    let mut lab = of(Lab::new(exec_identity(), vec![http_probe()], watched));
    assert!(lab.refused().contains("restart.enabled is not set"));
    let mut lab = of(Lab::with_observe(true, exec_identity(), vec![http_probe()], policy()));
    assert!(lab.refused().contains("--observe"));
    let mut lab = Lab::new(Identity::Remote, vec![http_probe()], policy());
    assert!(lab.refused().contains("not on this host"));
    let matched = Identity::Match(config::Matcher { port: Some(8080), ..config::Matcher::default() });
    let mut lab = of(Lab::new(matched, vec![http_probe()], policy()));
    assert!(lab.refused().contains("restart.command"), "{}", lab.refused());
}

#[test]
fn a_drill_honours_orders_and_maintenance() {
    let mut lab = healthy();
    lab.give(OperatorCommand::Pause(order(CommandKind::Pause, lab.now)));
    let why = lab.refused();
    assert!(
        why.contains("paused by root: the disk is replaced") && why.contains("`hostprobe resume`"),
        "{why}"
    );
    lab.give(OperatorCommand::Resume(order(CommandKind::Resume, lab.now)));
    assert_eq!(lab.obstacle(DrillFault::Kill), None);
    lab.give(OperatorCommand::Maintenance(Some("daily 03:00-03:15".into())));
    assert!(lab.refused().contains("maintenance daily 03:00-03:15 is under way"));
    // The engine begins none either, at the request of any operator.
    lab.drill(DrillFault::Kill);
    assert!(
        !lab.engine.is_in_drill(API)
            && lab.requested.iter().all(|it| !matches!(it, Effect::CauseFault { .. }))
    );
    lab.give(OperatorCommand::Maintenance(None));
    lab.give(OperatorCommand::Stop(order(CommandKind::Stop, lab.now)));
    assert!(lab.refused().contains("stopped by root") && lab.refused().contains("`hostprobe start`"));
}

#[test]
fn a_drill_needs_a_service_that_is_well() {
    let mut lab = healthy();
    lab.killed(100);
    let why = lab.refused();
    assert!(
        why.contains("it has an open incident (killed: main process 100") && why.contains("wait until"),
        "{why}"
    );
    lab.comes_back(101);
    assert_eq!(lab.obstacle(DrillFault::Kill), None);

    let mut lab = Lab::of(false, &[service("api", exec_identity(), vec![http_probe()], policy())]);
    lab.see(Observation::Running(API, process(100)));
    assert!(lab.refused().contains("it is starting and not healthy"), "{}", lab.refused());
}

#[test]
fn a_drill_leaves_a_restart_for_a_real_fault() {
    let mut lab = healthy();
    for pid in 100..103 {
        lab.killed(pid);
        lab.wait(MINUTE);
        lab.comes_back(pid + 1);
    }
    assert_eq!(lab.obstacle(DrillFault::Kill), None, "two of five are left");
    lab.killed(103);
    lab.wait(MINUTE);
    lab.comes_back(104);
    assert!(lab.refused().contains("its budget of 5 per 10m restarts has 1 left"), "{}", lab.refused());
    lab.wait(10 * MINUTE);
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.obstacle(DrillFault::Kill), None);
    lab.see(Observation::RestartBudget(RestartBudget { restarts: 0, window: MINUTE }));
    assert!(
        lab.refused().contains("the budget of 0 per 1m restarts of all services is spent"),
        "{}",
        lab.refused()
    );
}

#[test]
fn a_drill_waits_for_dependencies() {
    const CACHE: ServiceId = ServiceId(1);
    let mut app = service("api", exec_identity(), vec![http_probe()], policy());
    app.depends_on = vec![CACHE];
    let cache = service("cache", exec_identity(), vec![http_probe()], policy());
    let mut lab = Lab::of(false, &[app, cache]);
    lab.see(Observation::Running(API, process(100)));
    lab.answer(ProbeOutcome::Ok);
    assert!(lab.refused().contains("cache, which it depends on, is not healthy"), "{}", lab.refused());
    lab.see(Observation::Running(CACHE, process(200)));
    lab.answer_of(CACHE, ProbeOutcome::Ok);
    lab.wait(MINUTE);
    assert_eq!(lab.obstacle(DrillFault::Kill), None);
    let exit = exit(200, lab.now, KILL, Some(bash()));
    lab.see(Observation::Exit(exit, Membership { service: CACHE, main: true }, EventId(900)));
    assert!(lab.refused().contains("cache, which it depends on"));
}

#[test]
fn a_fault_that_nothing_would_show_is_refused() {
    let mut lab = of(Lab::new(exec_identity(), vec![], policy()));
    assert_eq!(lab.obstacle(DrillFault::Kill), None);
    assert_eq!(lab.obstacle(DrillFault::Oom), None);
    assert!(lab.obstacle(DrillFault::Hang).unwrap().contains("it has no probe"));
    assert!(lab.obstacle(DrillFault::Refuse).unwrap().contains("no probe of it connects to a TCP port"));
    let mut lab = Lab::exec();
    lab.wait(LATER);
    assert!(lab.obstacle(DrillFault::Refuse).is_some(), "its processes listen on no port");
}

#[test]
fn a_fault_that_probes_have_to_show_waits_for_the_end_of_the_grace() {
    let mut lab = healthy();
    lab.killed(100);
    lab.comes_back(101);
    lab.see(Observation::Listening(API, vec![8080]));
    assert_eq!(lab.obstacle(DrillFault::Kill), None);
    for fault in [DrillFault::Hang, DrillFault::Refuse] {
        let why = lab.obstacle(fault).unwrap();
        assert!(why.contains("started less than 30s ago") && why.ends_with("try again in 30 s"), "{why}");
    }
    lab.wait(Duration::from_secs(30));
    assert_eq!(lab.obstacle(DrillFault::Hang), None);
    assert_eq!(lab.obstacle(DrillFault::Refuse), None);
}
