//! Resources that grow towards their limits, and restarts in a window of maintenance.

use super::*;
use crate::fact::{OperatorCommand, Resource, ResourceLevel, Response};

const HORIZON: Duration = Duration::from_secs(4 * 3600);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn growing(response: Response) -> Lab {
    let mut api = service("api", exec_identity(), vec![http_probe()], policy());
    api.limits.growth = Some(HORIZON);
    api.policy.exhausting = response;
    let mut lab = Lab::of(false, &[api]);
    lab.see(Observation::Running(API, process(100)));
    lab.answer(ProbeOutcome::Ok);
    // A day at a fifth of the limit.
    levels(&mut lab, 24 * HOUR, |_| 200.0);
    lab
}

/// Sees a level a minute for a while.
fn levels(lab: &mut Lab, span: Duration, value: impl Fn(f64) -> f64) {
    let begin = lab.now;
    while lab.now < begin.plus(span) {
        lab.wait(MINUTE);
        let used = value(lab.now.since(begin).as_secs_f64() / 3600.0) as u64;
        level(lab, used);
    }
}

fn level(lab: &mut Lab, used: u64) {
    let limit = "RLIMIT_NOFILE".to_owned();
    let level = ResourceLevel { resource: Resource::Fds, lowest: used, highest: used, ceiling: 1000, limit };
    lab.see(Observation::Levels(API, vec![level]));
}

fn summary(lab: &Lab) -> String {
    lab.engine.view().next().unwrap().incident.map(|incident| incident.summary).unwrap_or_default()
}

#[test]
fn a_leak_alerts_with_its_value_limit_slope_and_time_left_and_ends_when_it_falls() {
    let mut lab = growing(Response::Alert);
    assert_eq!(lab.incidents(), [], "a day at the same level");
    levels(&mut lab, 2 * HOUR, |hours| 200.0 + 200.0 * hours);
    assert_eq!(lab.incidents()[0], (Phase::Open, Verdict::Exhausting, Severity::Warning));
    assert_eq!(lab.alerts(), [(Verdict::Exhausting, Severity::Warning, false)]);
    assert!(lab.restarts().is_empty(), "{:?}", lab.restarts());
    let words = summary(&lab);
    assert!(words.contains("descriptors more an hour and reaches its limit in "), "{words}");
    assert!(words.contains("of 1000 descriptors are used (RLIMIT_NOFILE)"), "{words}");
    let incident = lab.engine.view().next().unwrap().incident.unwrap();
    let is_growth = |event: &EventId| {
        let fact = &lab.published[usize::try_from(event.0).unwrap() - 1];
        matches!(fact, Fact::Growth(growth, API) if growth.resource == Resource::Fds)
    };
    assert!(!incident.evidence.is_empty() && incident.evidence.iter().all(is_growth));
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.state(), ServiceState::Degraded, "its probes are not what is wrong");
    levels(&mut lab, HOUR, |_| 300.0);
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
    assert_eq!(lab.state(), ServiceState::Healthy);
}

#[test]
fn half_of_the_time_that_was_told_is_told_again_and_a_full_resource_is_no_recovery() {
    let mut lab = growing(Response::Alert);
    levels(&mut lab, 3 * HOUR, |hours| 200.0 + 200.0 * hours);
    let updates = lab.incidents().iter().filter(|(phase, ..)| *phase == Phase::Update).count();
    assert!((1..=4).contains(&updates), "{:?}", lab.incidents());
    levels(&mut lab, HOUR, |hours| 800.0 + 200.0 * hours);
    levels(&mut lab, 3 * HOUR, |_| 1000.0);
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.state(), ServiceState::Degraded);
    assert_eq!(lab.alerts().len(), 1);
}

#[test]
fn a_policy_to_ignore_growth_opens_no_incident_and_other_incidents_come_first() {
    let mut lab = growing(Response::Ignore);
    levels(&mut lab, 3 * HOUR, |hours| 200.0 + 200.0 * hours);
    assert_eq!(lab.incidents(), []);
    assert_eq!(lab.engine.view().next().unwrap().growth.len(), 1, "it is shown");
    let mut lab = growing(Response::Alert);
    lab.see(Observation::Usage(API, ResourceUsage { threads: 11, ..ResourceUsage::default() }));
    lab.see(Observation::Usage(API, ResourceUsage { threads: 11, ..ResourceUsage::default() }));
    levels(&mut lab, 3 * HOUR, |hours| 200.0 + 200.0 * hours);
    assert!(lab.incidents().iter().all(|(_, verdict, _)| *verdict == Verdict::LimitExceeded));
}

#[test]
fn a_restart_by_policy_waits_for_the_next_window_of_maintenance() {
    let mut lab = growing(Response::Restart);
    levels(&mut lab, 2 * HOUR, |hours| 200.0 + 200.0 * hours);
    assert_eq!(lab.alerts(), [(Verdict::Exhausting, Severity::Warning, false)]);
    assert_eq!(lab.restarts_asked(), 0);
    let Action::Hold(why) = &lab.restarts()[0].action else { panic!("{:?}", lab.restarts()) };
    assert!(why.contains("window of maintenance"), "{why}");
    let window = Some("daily 03:00-03:15".to_owned());
    lab.see(Observation::Operator(API, OperatorCommand::Maintenance(window)));
    assert_eq!(lab.restarts_asked(), 1);
    lab.die(100, ExitStatus::Code(0), None);
    lab.comes_back(101);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
    // The window closes, and the next one has nothing to do.
    lab.see(Observation::Operator(API, OperatorCommand::Maintenance(None)));
    levels(&mut lab, HOUR, |_| 200.0);
    lab.see(Observation::Operator(API, OperatorCommand::Maintenance(Some("daily 03:00-03:15".to_owned()))));
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn an_operator_s_pause_holds_the_restart_of_a_window() {
    let mut lab = growing(Response::Restart);
    levels(&mut lab, 2 * HOUR, |hours| 200.0 + 200.0 * hours);
    let pause = order(CommandKind::Pause, lab.now);
    lab.see(Observation::Operator(API, OperatorCommand::Pause(pause)));
    lab.see(Observation::Operator(API, OperatorCommand::Maintenance(Some("daily 03:00-03:15".to_owned()))));
    assert_eq!(lab.restarts_asked(), 0);
}

#[test]
fn a_reload_that_takes_growth_away_ends_its_incident() {
    let mut lab = growing(Response::Alert);
    levels(&mut lab, 2 * HOUR, |hours| 200.0 + 200.0 * hours);
    let api = service("api", exec_identity(), vec![http_probe()], policy());
    lab.see(Observation::Configured(API, Box::new(api.settings())));
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
}
