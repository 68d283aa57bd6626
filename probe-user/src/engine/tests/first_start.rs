//! First starts that wait for other services.

use super::*;
use crate::fact::{OperatorCommand, Orders};

const DB: ServiceId = ServiceId(1);

/// `api` starts after `db`, which a unit runs.
fn lab(observe: bool) -> Lab {
    let db = service("db", Identity::Unit("db.service".to_owned()), vec![http_probe()], policy());
    let api = config::Service {
        start_after: vec![DB],
        ..service("api", exec_identity(), vec![http_probe()], policy())
    };
    Lab::of(observe, &[api, db])
}

fn is_start(effect: &Effect) -> bool {
    matches!(effect, Effect::Restart { service: API, method: RestartMethod::Supervisor, reset_failed: false })
}

fn reasons(lab: &Lab) -> Vec<String> {
    lab.restarts().into_iter().map(|restart| restart.reason.clone()).collect()
}

#[test]
fn a_command_starts_once_the_awaited_service_is_healthy() {
    for observe in [false, true] {
        let mut lab = lab(observe);
        lab.refuse();
        assert_eq!(reasons(&lab), ["its first start waits for db, for 5m at most"]);
        let view = lab.engine.view().next().unwrap();
        assert_eq!(
            (view.state, view.error.as_deref()),
            (ServiceState::Starting, Some("its first start waits for db"))
        );
        lab.wait(Duration::from_secs(200));
        // Its own probes fail meanwhile, for longer than its grace.
        for _ in 0..5 {
            lab.refuse();
        }
        assert!(!lab.requested.iter().any(is_start) && lab.incidents().is_empty());

        lab.answer_of(DB, ProbeOutcome::Ok);
        assert_eq!(lab.requested.iter().filter(|effect| is_start(effect)).count(), 1);
        assert_eq!(reasons(&lab).last().unwrap(), "first start, after db");
        lab.refuse();
        lab.comes_back(100);
        assert_eq!(lab.state(), ServiceState::Healthy);
        lab.wait(LATER);
        assert_eq!((lab.restarts().len(), lab.incidents().len()), (2, 0));
        // The start took nothing of its budget.
        lab.killed(100);
        let spent = lab.restarts().last().map(|restart| restart.budget_left);
        assert_eq!(spent, Some(policy().budget - u32::from(!observe)));
    }
}

#[test]
fn a_command_starts_although_the_awaited_service_stays_down() {
    let mut lab = lab(false);
    lab.refuse();
    lab.wait(Duration::from_secs(299));
    assert!(!lab.requested.iter().any(is_start));
    lab.wait(Duration::from_secs(2));
    assert_eq!(lab.requested.iter().filter(|effect| is_start(effect)).count(), 1);
    assert_eq!(
        reasons(&lab).last().unwrap(),
        "first start, although within 5m these have not become healthy: db"
    );
    lab.comes_back(100);
    assert_eq!(lab.state(), ServiceState::Healthy);
}

#[test]
fn a_first_start_that_fails_is_an_incident() {
    let mut lab = lab(false);
    lab.answer_of(DB, ProbeOutcome::Ok);
    lab.see(Observation::RestartOutcome(API, Err("/usr/bin/api: No such file".to_owned())));
    let (phase, verdict, _) = lab.incidents()[0];
    assert_eq!((phase, verdict), (Phase::Open, Verdict::Exited));
}

#[test]
fn an_operator_who_starts_it_does_not_wait_and_one_who_stops_it_ends_the_wait() {
    for stops in [false, true] {
        let mut lab = lab(false);
        lab.refuse();
        let command = if stops { OperatorCommand::Stop } else { OperatorCommand::Start };
        lab.see(Observation::Operator(API, command(order(CommandKind::Start, lab.now))));
        assert_eq!(lab.requested.iter().any(is_start), !stops);
        lab.answer_of(DB, ProbeOutcome::Ok);
        lab.wait(LATER);
        let starts = lab.requested.iter().filter(|effect| is_start(effect)).count();
        assert_eq!(starts, usize::from(!stops), "the health of the other one starts it no second time");
    }
}

#[test]
fn a_command_that_an_operator_stopped_under_an_earlier_daemon_waits_for_no_other() {
    let mut lab = lab(false);
    let stop = Some(order(CommandKind::Stop, lab.now));
    lab.see(Observation::Operator(API, OperatorCommand::Remembered(Orders { stop, pause: None })));
    lab.answer_of(DB, ProbeOutcome::Ok);
    lab.wait(LATER);
    assert_eq!((lab.state(), lab.requested.iter().any(is_start)), (ServiceState::Stopped, false));
}

/// A reload with these services for `api` to start after.
fn reload(lab: &mut Lab, start_after: &[ServiceId]) {
    let api = config::Service {
        start_after: start_after.to_vec(),
        ..service("api", exec_identity(), vec![http_probe()], policy())
    };
    lab.see(Observation::Configured(API, Box::new(api.settings())));
}

#[test]
fn a_reload_ends_the_wait_or_lets_it_wait_for_others() {
    let mut lab = lab(false);
    lab.refuse();
    let cache = service("cache", Identity::Remote, vec![http_probe()], policy());
    lab.see(Observation::Configured(ServiceId(2), Box::new(cache.settings())));
    reload(&mut lab, &[ServiceId(2)]);
    assert_eq!(reasons(&lab).last().unwrap(), "its first start waits for cache, for 5m at most");
    lab.answer_of(DB, ProbeOutcome::Ok);
    assert!(!lab.requested.iter().any(is_start));
    reload(&mut lab, &[]);
    assert_eq!(lab.requested.iter().filter(|effect| is_start(effect)).count(), 1);
    assert_eq!(reasons(&lab).last().unwrap(), "first start");
    lab.comes_back(100);
    reload(&mut lab, &[ServiceId(2)]);
    lab.wait(LATER);
    assert_eq!(lab.requested.iter().filter(|effect| is_start(effect)).count(), 1, "it runs already");
}

#[test]
fn a_command_that_a_reload_adds_starts_after_others_that_it_adds_as_well() {
    let mut lab = Lab::of(false, &[]);
    let added = ServiceId(1);
    reload(&mut lab, &[added]);
    assert!(lab.restarts().is_empty(), "the name of the other one is not known yet");
    let db = service("db", Identity::Unit("db.service".to_owned()), vec![http_probe()], policy());
    lab.see(Observation::Configured(added, Box::new(db.settings())));
    assert_eq!(reasons(&lab), ["its first start waits for db, for 5m at most"]);
    assert!(lab.engine.waits_to_start(API));
    lab.answer_of(added, ProbeOutcome::Ok);
    assert!(!lab.engine.waits_to_start(API));
    assert_eq!(lab.requested.iter().filter(|effect| is_start(effect)).count(), 1);
}
