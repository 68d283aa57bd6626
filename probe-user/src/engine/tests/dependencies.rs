//! Services that depend on others.

use super::*;
use crate::fact::Pressure;

/// The application under test, and its cache.
const APP: ServiceId = ServiceId(0);
const CACHE: ServiceId = ServiceId(1);

fn failing() -> ProbeOutcome {
    ProbeOutcome::Failed(ProbeFailure::Status, "503".into())
}

/// An application and a cache, both healthy for a minute. The dependency is declared or learned.
fn pair(declared: bool) -> Lab {
    let mut app = service("app", exec_identity(), vec![http_probe()], policy());
    let cache = service("cache", exec_identity(), vec![http_probe()], policy());
    if declared {
        app.depends_on = vec![CACHE];
    }
    let lab = Lab::of(false, &[app, cache]);
    let learned = Observation::Connected { client: APP, server: CACHE };
    settled(lab, (!declared).then_some(learned))
}

/// All services are healthy for a minute, after one more observation.
fn settled(mut lab: Lab, first: Option<Observation>) -> Lab {
    if let Some(first) = first {
        lab.see(first);
    }
    let count = lab.engine.view().count();
    let all = || (0..).map(ServiceId).take(count);
    for (service, pid) in all().zip((1..).map(|nth| 100 * nth)) {
        lab.see(Observation::Running(service, process(pid)));
        lab.answer_of(service, ProbeOutcome::Ok);
    }
    lab.wait(LATER);
    for service in all() {
        lab.answer_of(service, ProbeOutcome::Ok);
    }
    lab.published.clear();
    lab.requested.clear();
    lab
}

fn cache_dies(lab: &mut Lab, pid: u32) {
    lab.now = lab.now.plus(Duration::from_millis(1));
    let exit = exit(pid, lab.now, KILL, Some(bash()));
    lab.see(Observation::Exit(exit, Membership { service: CACHE, main: true }, EventId(900)));
}

fn cache_is_back(lab: &mut Lab, pid: u32) {
    lab.see(Observation::RestartOutcome(CACHE, Ok(())));
    lab.see(Observation::Running(CACHE, process(pid)));
    lab.answer_of(CACHE, ProbeOutcome::Ok);
}

fn app_fails(lab: &mut Lab, times: u32) {
    for _ in 0..times {
        lab.answer_of(APP, failing());
    }
}

fn requests(lab: &Lab) -> Vec<ServiceId> {
    let requests = lab.restarts().into_iter().filter(|restart| restart.action == Action::Request);
    requests.map(|restart| restart.service).collect()
}

fn incident_of(lab: &Lab, service: ServiceId) -> Option<Incident> {
    lab.engine.view().nth(service.0 as usize).unwrap().incident
}

#[test]
fn a_service_with_a_failed_dependency_is_held_and_named_in_its_incident() {
    for declared in [true, false] {
        let mut lab = pair(declared);
        cache_dies(&mut lab, 200);
        app_fails(&mut lab, 6);
        let app = incident_of(&lab, APP).unwrap();
        assert_eq!((app.verdict, app.cause), (Verdict::DependencyDown, CACHE));
        assert_eq!(incident_of(&lab, CACHE).unwrap().held, [APP]);
        lab.wait(Duration::from_secs(11));
        cache_is_back(&mut lab, 201);
        lab.answer_of(APP, ProbeOutcome::Ok);
        assert_eq!(incident_of(&lab, APP), None);
        assert_eq!(requests(&lab), [CACHE]);
        assert_eq!(
            lab.restarts().iter().filter(|restart| restart.service == APP).count(),
            1,
            "it is held once"
        );
        let alerts: Vec<_> =
            lab.alerts().into_iter().map(|(verdict, _, resolved)| (verdict, resolved)).collect();
        assert_eq!(alerts, [(Verdict::Killed, false), (Verdict::Killed, true)], "one alert for one cause");
    }
}

#[test]
fn a_service_that_does_not_heal_after_its_dependency_is_restarted_once() {
    let mut lab = pair(true);
    cache_dies(&mut lab, 200);
    app_fails(&mut lab, 3);
    cache_is_back(&mut lab, 201);
    app_fails(&mut lab, 5);
    assert_eq!(requests(&lab), [CACHE], "the grace comes first");
    lab.wait(Duration::from_secs(31));
    assert_eq!(requests(&lab), [CACHE, APP]);
    assert_eq!(incident_of(&lab, APP).unwrap().verdict, Verdict::Unhealed);
    lab.comes_back(101);
    lab.wait(LATER);
    assert_eq!(requests(&lab), [CACHE, APP]);
}

#[test]
fn a_busy_host_extends_the_grace_to_heal() {
    let mut lab = pair(true);
    cache_dies(&mut lab, 200);
    app_fails(&mut lab, 3);
    cache_is_back(&mut lab, 201);
    lab.wait(Duration::from_secs(29));
    lab.see(Observation::Pressure(Pressure { at: lab.now, cpu: Some(0.95), ..Pressure::default() }));
    lab.wait(Duration::from_secs(2));
    lab.see(Observation::Pressure(Pressure { at: lab.now, cpu: Some(0.0), ..Pressure::default() }));
    app_fails(&mut lab, 5);
    assert_eq!(requests(&lab), [CACHE], "its grace is longer");
    lab.wait(Duration::from_secs(30));
    assert_eq!(requests(&lab), [CACHE, APP]);
    assert_eq!(incident_of(&lab, APP).unwrap().verdict, Verdict::Unhealed);
}

#[test]
fn an_earlier_incident_is_attributed_to_the_dependency_later() {
    let mut lab = pair(true);
    lab.answer_of(CACHE, failing());
    lab.answer_of(CACHE, failing());
    app_fails(&mut lab, 4);
    assert_eq!(incident_of(&lab, APP), None, "the cache is suspect, and not yet judged");
    assert!(lab.requested.contains(&Effect::ProbeNow(CACHE)));
    lab.answer_of(CACHE, failing());
    assert_eq!(incident_of(&lab, CACHE).unwrap().verdict, Verdict::Unhealthy);
    app_fails(&mut lab, 1);
    assert_eq!(incident_of(&lab, APP).unwrap().verdict, Verdict::DependencyDown);
}

#[test]
fn a_service_that_exits_without_its_dependency_starts_when_that_is_back() {
    let mut lab = pair(true);
    cache_dies(&mut lab, 200);
    lab.die(100, ExitStatus::Code(1), None);
    assert_eq!(incident_of(&lab, APP).unwrap().verdict, Verdict::DependencyDown);
    assert_eq!((requests(&lab), lab.state()), (vec![CACHE], ServiceState::Down));
    cache_is_back(&mut lab, 201);
    assert_eq!(requests(&lab), [CACHE, APP]);
}

#[test]
fn a_crash_is_never_attributed_to_a_dependency() {
    let mut lab = pair(true);
    cache_dies(&mut lab, 200);
    lab.die(100, SEGV, Some(Sender::Kernel));
    assert_eq!(requests(&lab), [CACHE, APP]);
}

#[test]
fn a_dependency_that_is_not_needed_explains_nothing() {
    let mut lab = pair(false);
    cache_dies(&mut lab, 200);
    lab.wait(Duration::from_secs(60));
    lab.answer_of(APP, ProbeOutcome::Ok);
    app_fails(&mut lab, 3);
    assert_eq!(incident_of(&lab, APP).unwrap().verdict, Verdict::Unhealthy);
}

#[test]
fn a_stopped_dependency_holds_and_the_dependent_alerts() {
    let mut lab = pair(true);
    let mut app = service("app", exec_identity(), vec![http_probe()], policy());
    app.depends_on = vec![CACHE];
    let cache = service("cache", Identity::Unit("cache.service".into()), vec![], policy());
    lab.engine = Engine::new(&[app, cache], false, lab.now);
    lab.see(Observation::Running(APP, process(100)));
    lab.answer_of(APP, ProbeOutcome::Ok);
    lab.see(Observation::Running(CACHE, process(200)));
    lab.wait(LATER);
    lab.answer_of(APP, ProbeOutcome::Ok);
    cache_dies(&mut lab, 200);
    let job = Some(UnitJob { id: 1, kind: "stop".into() });
    let state =
        UnitState { load: "loaded".into(), active: "deactivating".into(), job, ..UnitState::default() };
    lab.see(Observation::Unit(CACHE, state));
    assert_eq!(incident_of(&lab, CACHE), None, "a requested stop is no incident");
    app_fails(&mut lab, 3);
    assert_eq!(incident_of(&lab, APP).unwrap().verdict, Verdict::DependencyDown);
    lab.wait(Duration::from_secs(11));
    assert_eq!(lab.alerts(), [(Verdict::DependencyDown, Severity::Critical, false)]);
    assert_eq!(requests(&lab), []);
}

#[test]
fn services_that_depend_on_each_other_are_still_judged() {
    let mut lab = pair(true);
    lab.see(Observation::Connected { client: CACHE, server: APP });
    for _ in 0..3 {
        lab.answer_of(APP, failing());
        lab.answer_of(CACHE, failing());
    }
    let verdicts = [APP, CACHE].map(|service| incident_of(&lab, service).unwrap().verdict);
    assert!(verdicts.contains(&Verdict::Unhealthy), "{verdicts:?}");
}

#[test]
fn the_root_of_a_chain_is_the_cause_of_all() {
    let mut services: Vec<_> =
        ["app", "api", "db"].map(|name| service(name, exec_identity(), vec![http_probe()], policy())).into();
    services[0].depends_on = vec![ServiceId(1)];
    services[1].depends_on = vec![ServiceId(2)];
    let mut lab = Lab::of(false, &services);
    for (id, pid) in [(0, 100), (1, 200), (2, 300)] {
        lab.see(Observation::Running(ServiceId(id), process(pid)));
        lab.answer_of(ServiceId(id), ProbeOutcome::Ok);
    }
    lab.wait(LATER);
    let exit = exit(300, lab.now, KILL, Some(bash()));
    lab.see(Observation::Exit(exit, Membership { service: ServiceId(2), main: true }, EventId(900)));
    for id in [1, 0] {
        for _ in 0..3 {
            lab.answer_of(ServiceId(id), failing());
        }
    }
    assert_eq!(incident_of(&lab, ServiceId(0)).unwrap().cause, ServiceId(2));
    assert_eq!(incident_of(&lab, ServiceId(2)).unwrap().held, [ServiceId(1), ServiceId(0)]);
}

#[test]
fn a_dependency_stopped_before_the_daemon_started_is_a_cause() {
    let mut app = service("app", exec_identity(), vec![http_probe()], policy());
    app.depends_on = vec![CACHE];
    let cache = service("cache", Identity::Unit("cache.service".into()), vec![http_probe()], policy());
    let mut lab = Lab::of(false, &[app, cache]);
    let stopped = UnitState {
        active: "inactive".into(),
        sub: "dead".into(),
        main: None,
        main_pid: 0,
        ..units::running_unit(0)
    };
    lab.see(Observation::Unit(CACHE, stopped));
    lab.see(Observation::Running(APP, process(100)));
    lab.wait(LATER);
    for _ in 0..3 {
        lab.answer_of(CACHE, ProbeOutcome::Failed(ProbeFailure::Refused, "connection refused".into()));
        app_fails(&mut lab, 1);
    }
    assert_eq!(lab.incidents()[0].1, Verdict::DependencyDown);
    assert_eq!(requests(&lab), []);
    lab.wait(Duration::from_secs(11));
    assert_eq!(lab.alerts(), [(Verdict::DependencyDown, Severity::Critical, false)], "it has no incident");
    lab.see(Observation::Unit(CACHE, units::running_unit(200)));
    lab.answer_of(CACHE, ProbeOutcome::Ok);
    lab.answer_of(APP, ProbeOutcome::Ok);
    assert_eq!(lab.state(), ServiceState::Healthy);
}

#[test]
fn a_dependent_of_an_overloaded_service_is_held() {
    let mut lab = pair(true);
    let starved = Examination { run_delay: Duration::from_millis(180), ..at_work() };
    for _ in 0..3 {
        lab.answer_of(CACHE, ProbeOutcome::Failed(ProbeFailure::Timeout, "no answer".into()));
        lab.see(Observation::Examined(CACHE, Some(starved.clone())));
    }
    app_fails(&mut lab, 4);
    assert_eq!(incident_of(&lab, CACHE).unwrap().verdict, Verdict::Overloaded);
    assert_eq!(incident_of(&lab, APP).unwrap().verdict, Verdict::DependencyDown);
    assert_eq!(requests(&lab), []);
    lab.answer_of(CACHE, ProbeOutcome::Ok);
    lab.answer_of(APP, ProbeOutcome::Ok);
    assert_eq!((incident_of(&lab, CACHE), incident_of(&lab, APP)), (None, None));
}

#[test]
fn a_service_is_not_hung_before_its_dependency_was_probed() {
    let mut lab = pair(false);
    let timeout = || ProbeOutcome::Failed(ProbeFailure::Timeout, "no answer".into());
    let address = [127, 0, 0, 1].into();
    let queue =
        Some(AcceptQueue { at: lab.now, source: Source::Proc, address, port: 8080, waiting: 3, backlog: 9 });
    let over = Duration::from_millis(200);
    let waits = Examination { over, queue_before: queue, queue, ..Examination::default() };
    lab.answer_of(APP, timeout());
    lab.see(Observation::Examined(APP, Some(waits.clone())));
    assert_eq!(incident_of(&lab, APP), None);
    assert!(lab.requested.contains(&Effect::ProbeNow(CACHE)));
    lab.answer_of(CACHE, timeout());
    lab.answer_of(APP, timeout());
    assert_eq!(requests(&lab), []);
    lab.answer_of(CACHE, ProbeOutcome::Ok);
    lab.answer_of(APP, timeout());
    assert_eq!(incident_of(&lab, APP).unwrap().verdict, Verdict::Hung);
}

/// Both have just started, and neither has answered yet.
fn starting_pair() -> Lab {
    let mut app = service("app", exec_identity(), vec![http_probe()], policy());
    app.restart.grace = Duration::from_secs(1);
    app.depends_on = vec![CACHE];
    let cache = service("cache", exec_identity(), vec![http_probe()], policy());
    let mut lab = Lab::of(false, &[app, cache]);
    for (service, pid) in [(APP, 100), (CACHE, 200)] {
        lab.see(Observation::Running(service, process(pid)));
    }
    lab.wait(Duration::from_secs(2));
    lab
}

#[test]
fn a_failure_while_the_dependency_starts_causes_no_restart() {
    let mut lab = starting_pair();
    app_fails(&mut lab, 6);
    assert_eq!(requests(&lab), []);
    lab.answer_of(CACHE, ProbeOutcome::Ok);
    lab.answer_of(APP, ProbeOutcome::Ok);
    assert_eq!((incident_of(&lab, APP), lab.state()), (None, ServiceState::Healthy));
}

#[test]
fn an_exit_while_the_dependency_starts_is_followed_by_a_start_once_it_is_healthy() {
    let mut lab = starting_pair();
    lab.die(100, ExitStatus::Code(1), None);
    lab.see(Observation::PortHolder(APP, None));
    lab.wait(Duration::from_secs(5));
    assert_eq!(requests(&lab), [], "it would only exit again");
    assert_eq!(lab.restarts().len(), 1, "one hold is published");
    lab.answer_of(CACHE, ProbeOutcome::Ok);
    lab.wait(Duration::from_secs(1));
    assert_eq!(requests(&lab), [APP]);
}

#[test]
fn of_two_mutual_dependents_the_second_is_restarted_if_the_first_restart_fails() {
    let mut lab = pair(false);
    lab.see(Observation::Connected { client: CACHE, server: APP });
    app_fails(&mut lab, 3);
    assert_eq!(requests(&lab), [APP]);
    for _ in 0..3 {
        lab.answer_of(CACHE, failing());
    }
    assert_eq!(requests(&lab), [APP, CACHE], "the first was restarted, and the second still fails");
}

/// An application and a cache with invisible connections.
fn invisible_pair() -> Lab {
    invisible(&["app", "cache"])
}

/// Services with invisible connections.
fn invisible(names: &[&str]) -> Lab {
    let spec = |name: &&str| service(name, exec_identity(), vec![http_probe()], policy());
    let services: Vec<_> = names.iter().map(spec).collect();
    settled(Lab::of(false, &services), Some(Observation::ConnectionsUnseen))
}

#[test]
fn with_invisible_connections_a_guessed_cause_holds_for_a_limited_time() {
    let mut lab = invisible_pair();
    cache_dies(&mut lab, 200);
    app_fails(&mut lab, 6);
    let app = incident_of(&lab, APP).unwrap();
    assert_eq!((app.verdict, app.cause), (Verdict::DependencyDown, CACHE));
    assert!(app.confidence < 0.6 && app.summary.contains("may depend"), "{app:?}");
    assert_eq!(requests(&lab), [CACHE]);
    // The cache does not come back, and the application still fails: it may be the application's own fault.
    lab.wait(Duration::from_secs(61));
    app_fails(&mut lab, 1);
    assert_eq!(incident_of(&lab, APP).unwrap().verdict, Verdict::Unhealthy);
    assert!(requests(&lab).contains(&APP));
}

#[test]
fn with_invisible_connections_overloaded_services_are_not_each_others_cause() {
    let mut lab = invisible(&["app", "cache", "mail"]);
    let all = [APP, CACHE, ServiceId(2)];
    for _ in 0..4 {
        for id in all {
            lab.answer_of(id, ProbeOutcome::Failed(ProbeFailure::Timeout, "no answer".into()));
            lab.see(Observation::Examined(id, Some(at_work())));
        }
    }
    for id in all {
        assert_eq!(incident_of(&lab, id).unwrap().verdict, Verdict::Overloaded, "{id:?}");
    }
    assert_eq!(requests(&lab), []);
}

#[test]
fn with_invisible_connections_a_death_has_no_other_cause() {
    let mut lab = invisible_pair();
    cache_dies(&mut lab, 200);
    lab.die(100, ExitStatus::Code(1), None);
    assert_eq!(requests(&lab), [CACHE, APP]);
    assert_eq!(incident_of(&lab, APP).unwrap().verdict, Verdict::Exited);
}

#[test]
fn concurrent_attempts_find_a_failed_dependency_before_a_hang() {
    let mut lab = pair(true);
    let start = lab.now;
    let millis = Duration::from_millis;
    for begun in [0, 250, 500] {
        hangs::unanswered(&mut lab, APP, start, millis(begun));
        lab.see(Observation::Examined(APP, Some(at_work())));
    }
    assert_eq!(requests(&lab), [], "the cache's result comes first");
    // The cache was probed when the first attempt ended.
    for begun in [1000, 2001, 3002] {
        hangs::unanswered(&mut lab, CACHE, start, millis(begun));
        lab.see(Observation::Examined(CACHE, Some(at_work())));
    }
    assert_eq!(incident_of(&lab, CACHE).unwrap().verdict, Verdict::Hung);
    lab.see(Observation::Snapshot(CACHE, Err("none".into())));
    assert_eq!(requests(&lab), [CACHE]);
}

#[test]
fn the_wait_for_a_dependency_spends_the_budget() {
    let mut app =
        service("app", exec_identity(), vec![http_probe()], RestartPolicy { budget: 1, ..policy() });
    app.depends_on = vec![CACHE];
    let cache = service("cache", exec_identity(), vec![http_probe()], policy());
    let mut lab = settled(Lab::of(false, &[app, cache]), None);
    // It ends with an error while its dependency fails too, and is started once that one answers.
    let ends_and_waits = |lab: &mut Lab, pid: u32| {
        lab.answer_of(CACHE, failing());
        let exit = exit(pid, lab.now, ExitStatus::Code(1), None);
        lab.see(Observation::Exit(exit, Membership { service: APP, main: true }, EventId(901)));
        lab.answer_of(CACHE, ProbeOutcome::Ok);
        lab.wait(Duration::from_secs(2));
    };
    ends_and_waits(&mut lab, 100);
    assert_eq!(requests(&lab), [APP]);
    lab.see(Observation::RestartOutcome(APP, Ok(())));
    lab.see(Observation::Running(APP, process(101)));
    ends_and_waits(&mut lab, 101);
    assert_eq!(requests(&lab), [APP], "its budget is spent");
    assert_eq!(incident_of(&lab, APP).unwrap().verdict, Verdict::CrashLoop);
}
