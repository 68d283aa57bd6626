//! Reloads: what a changed service keeps, and what is left of a removed one.

use super::*;
use crate::fact::{IdentityKind, OperatorCommand, ServiceSettings};

const APP: ServiceId = API;
const CACHE: ServiceId = ServiceId(1);

/// The settings of the service under test, changed.
fn changed(change: impl FnOnce(&mut config::Service)) -> Box<ServiceSettings> {
    let mut spec = service("api", exec_identity(), vec![http_probe()], policy());
    change(&mut spec);
    Box::new(spec.settings())
}

fn reload(lab: &mut Lab, change: impl FnOnce(&mut config::Service)) {
    lab.see(Observation::Configured(API, changed(change)));
}

#[test]
fn a_changed_service_keeps_its_process_its_incident_and_what_it_has_spent() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.comes_back(101);
    lab.killed(101);
    let left = lab.restarts().last().unwrap().budget_left;
    lab.published.clear();
    reload(&mut lab, |api| {
        api.critical = false;
        api.restart.budget += 2;
        api.limits.threads = None;
    });
    let view = lab.engine.view().next().unwrap();
    assert!(view.incident.is_some(), "the incident stays open");
    assert!(lab.published.is_empty(), "nothing has happened: {:?}", lab.published);
    lab.comes_back(102);
    lab.killed(102);
    assert_eq!(lab.restarts().last().unwrap().budget_left, left + 2 - 1, "what is spent stays spent");
    lab.comes_back(103);
    assert_eq!(lab.state(), ServiceState::Healthy);
    reload(&mut lab, |_| {});
    assert_eq!(lab.state(), ServiceState::Healthy);
    assert_eq!(lab.engine.view().next().unwrap().service, API);
}

#[test]
fn a_reload_during_a_restart_does_not_restart_again() {
    let mut lab = Lab::exec();
    lab.killed(100);
    assert_eq!(lab.restarts_asked(), 1);
    reload(&mut lab, |api| api.restart.grace = Duration::from_secs(5));
    lab.comes_back(101);
    lab.wait(LATER);
    assert_eq!(lab.restarts_asked(), 1);
    assert_eq!(lab.state(), ServiceState::Healthy);
}

#[test]
fn restarts_that_a_reload_turns_off_do_not_happen_and_those_it_turns_on_do() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Running(API, process(101)));
    lab.killed(101);
    assert_eq!(lab.restarts_asked(), 1, "the second one waits");
    reload(&mut lab, |api| api.restart.enabled = false);
    lab.wait(LATER);
    assert_eq!(lab.restarts_asked(), 1);
    let last = lab.restarts().last().map(|restart| restart.action.clone());
    assert_eq!(last, Some(Action::Hold("restarts are not enabled for this service".into())));
    reload(&mut lab, |_| {});
    lab.wait(LATER);
    assert_eq!(lab.restarts_asked(), 2);
}

#[test]
fn a_changed_limit_ends_what_the_old_one_counted() {
    let mut lab = Lab::exec();
    let busy = ResourceUsage { threads: 20, ..ResourceUsage::default() };
    lab.see(Observation::Usage(API, busy));
    lab.see(Observation::Usage(API, busy));
    assert_eq!(lab.state(), ServiceState::Degraded);
    reload(&mut lab, |api| api.limits.threads = Some(100));
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.state(), ServiceState::Healthy);
}

#[test]
fn a_new_probe_begins_without_results_and_ignores_runs_of_the_old_one() {
    let mut lab = Lab::exec();
    lab.wait(LATER);
    for _ in 0..2 {
        lab.answer(ProbeOutcome::Failed(ProbeFailure::Status, "status 500".into()));
    }
    let mut settings = changed(|_| {});
    settings.probes[0].is_new = true;
    let old_run = lab.now;
    lab.now = lab.now.plus(Duration::from_secs(1));
    lab.requested.clear();
    lab.see(Observation::Configured(API, settings));
    assert_eq!(lab.requested, [Effect::ProbeNow(API)]);
    lab.published.clear();
    lab.see(Observation::Probe(ProbeReport {
        service: API,
        index: 0,
        at: lab.now,
        kind: ProbeKind::Http,
        target: "http://127.0.0.1:8080/".into(),
        duration: lab.now.since(old_run).saturating_add(Duration::from_millis(5)),
        outcome: ProbeOutcome::Failed(ProbeFailure::Status, "status 500".into()),
        hurried: None,
        remark: None,
        server: None,
    }));
    assert_eq!(lab.incidents(), []);
    for _ in 0..2 {
        lab.answer(ProbeOutcome::Failed(ProbeFailure::Status, "status 500".into()));
    }
    assert_eq!(lab.incidents(), [], "the count begins again");
    lab.answer(ProbeOutcome::Failed(ProbeFailure::Status, "status 500".into()));
    assert_eq!(lab.incidents().len(), 1);
}

#[test]
fn a_pause_and_a_stop_outlast_a_reload() {
    let mut lab = Lab::exec();
    let since = lab.now;
    lab.see(Observation::Operator(API, OperatorCommand::Pause(order(CommandKind::Pause, since))));
    reload(&mut lab, |api| api.critical = false);
    lab.killed(100);
    lab.wait(LATER);
    assert_eq!(lab.restarts_asked(), 0);
    assert_eq!(lab.alerts(), []);
    lab.see(Observation::Operator(API, OperatorCommand::Stop(order(CommandKind::Stop, lab.now))));
    reload(&mut lab, |_| {});
    assert!(lab.engine.is_kept_stopped(API));
    assert!(lab.engine.view().next().unwrap().orders.pause.is_some());
}

#[test]
fn a_removed_service_ends_its_incident_and_no_service_waits_for_it_any_more() {
    let app = service("api", exec_identity(), vec![http_probe()], policy());
    let cache = service("cache", Identity::Remote, vec![http_probe()], policy());
    let mut lab = Lab::of(false, &[config::Service { depends_on: vec![CACHE], ..app }, cache]);
    lab.see(Observation::Running(APP, process(100)));
    lab.answer_of(APP, ProbeOutcome::Ok);
    lab.answer_of(CACHE, ProbeOutcome::Ok);
    lab.wait(LATER);
    let refused = || ProbeOutcome::Failed(ProbeFailure::Refused, "connection refused".into());
    (0..4).for_each(|_| lab.answer_of(CACHE, refused()));
    (0..4).for_each(|_| lab.answer_of(APP, ProbeOutcome::Failed(ProbeFailure::Status, "status 500".into())));
    let incident = |lab: &Lab, at: usize| lab.engine.view().nth(at).and_then(|view| view.incident);
    assert_eq!(incident(&lab, 0).unwrap().verdict, Verdict::DependencyDown);
    lab.wait(LATER);
    lab.requested.clear();
    lab.published.clear();
    lab.see(Observation::Removed(CACHE));
    assert_eq!(lab.engine.view().map(|view| view.service).collect::<Vec<_>>(), [APP]);
    let ended = lab.incidents();
    assert_eq!(ended[0].0, Phase::Resolve, "{ended:?}");
    assert!(lab.alerts().iter().any(|(_, _, resolved)| *resolved), "the receivers know that it is over");
    // What comes too late concerns no service.
    lab.published.clear();
    (0..4).for_each(|_| lab.answer_of(CACHE, refused()));
    lab.see(Observation::Removed(CACHE));
    assert_eq!(lab.incidents(), []);
    lab.wait(LATER);
    (0..4).for_each(|_| lab.answer_of(APP, ProbeOutcome::Failed(ProbeFailure::Status, "status 500".into())));
    assert_ne!(incident(&lab, 0).unwrap().verdict, Verdict::DependencyDown);
}

#[test]
fn an_added_service_is_watched_like_one_from_the_start() {
    let mut lab = Lab::exec();
    let added = service("cache", Identity::Unit("cache.service".into()), vec![], policy()).settings();
    assert_eq!(added.kind, IdentityKind::Unit);
    lab.see(Observation::Configured(ServiceId(7), Box::new(added)));
    lab.see(Observation::Running(ServiceId(7), process(200)));
    let ids: Vec<ServiceId> = lab.engine.view().map(|view| view.service).collect();
    assert_eq!(ids, [API, ServiceId(7)]);
    lab.wait(LATER);
    assert!(lab.engine.view().all(|view| view.state == ServiceState::Healthy));
}
