//! Causes on other hosts.

use super::*;
use crate::fact::{FleetState, ForeignFault, ForeignService, ForeignStanding};

const API: ServiceId = ServiceId(0);
const REDIS: ServiceId = ServiceId(ServiceId::FIRST_FOREIGN + 7);

fn failing() -> ProbeOutcome {
    ProbeOutcome::Failed(ProbeFailure::Status, "503".into())
}

fn killed() -> ForeignStanding {
    ForeignStanding::Failed(ForeignFault {
        verdict: Verdict::OomKilled,
        confidence: 1.0,
        summary: "the OOM killer ended it".to_owned(),
        evidence: vec!["c0ffee00-7".to_owned()],
    })
}

fn redis(standing: ForeignStanding) -> Observation {
    let name = "redis on db-1".to_owned();
    Observation::Foreign(Box::new(ForeignService { id: REDIS, name, clients: vec![API], standing }))
}

/// An API that has been healthy for a minute. Its host knows that it connects to Redis on `db-1`.
fn lab() -> Lab {
    let mut lab = Lab::exec();
    lab.see(Observation::Fleet(FleetState::default()));
    lab.see(redis(ForeignStanding::Well));
    lab.see(Observation::Running(API, process(100)));
    lab.answer(ProbeOutcome::Ok);
    lab.wait(LATER);
    lab.answer(ProbeOutcome::Ok);
    lab.published.clear();
    lab.requested.clear();
    lab
}

fn incident(lab: &Lab) -> Option<Incident> {
    lab.engine.incident(API)
}

#[test]
fn a_failure_on_another_host_is_the_cause_and_holds_restart_and_alert() {
    let mut lab = lab();
    lab.see(redis(killed()));
    (0..3).for_each(|_| lab.answer(failing()));
    let open = incident(&lab).unwrap();
    assert_eq!((open.verdict, open.cause), (Verdict::DependencyDown, REDIS));
    assert_eq!(open.confidence.to_bits(), 0.9_f32.to_bits());
    assert_eq!(open.earlier.evidence, ["c0ffee00-7"]);
    assert!(
        open.summary.starts_with("redis on db-1, which it depends on, has an incident (oom_killed)"),
        "{}",
        open.summary
    );
    lab.wait(Duration::from_secs(30));
    assert_eq!((lab.restarts_asked(), lab.alerts()), (0, vec![]));
    lab.see(redis(ForeignStanding::Well));
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(incident(&lab), None);
    assert_eq!((lab.restarts_asked(), lab.alerts()), (0, vec![]));
}

#[test]
fn a_judgement_waits_a_moment_for_the_word_of_the_other_host() {
    let mut lab = lab();
    (0..3).for_each(|_| lab.answer(failing()));
    assert_eq!(incident(&lab), None);
    lab.see(redis(killed()));
    lab.wait(Duration::from_millis(600));
    assert_eq!(incident(&lab).unwrap().verdict, Verdict::DependencyDown);
    assert_eq!(lab.restarts_asked(), 0);
}

#[test]
fn without_a_word_of_the_other_host_the_service_is_judged_by_itself() {
    let mut lab = lab();
    (0..3).for_each(|_| lab.answer(failing()));
    lab.wait(Duration::from_millis(600));
    assert_eq!(incident(&lab).unwrap().verdict, Verdict::Unhealthy);
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn while_the_fleet_is_away_nothing_waits_for_it_and_the_incident_says_so() {
    let mut lab = lab();
    lab.see(Observation::Fleet(FleetState {
        away: Some("NATS cannot be reached".to_owned()),
        silent: vec![],
    }));
    lab.see(redis(ForeignStanding::Unknown("x".to_owned())));
    (0..3).for_each(|_| lab.answer(failing()));
    let open = incident(&lab).unwrap();
    assert_eq!(open.verdict, Verdict::Unhealthy);
    assert!(open.summary.contains("NATS cannot be reached"), "{}", open.summary);
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn a_cause_of_which_nothing_is_known_any_more_holds_nothing() {
    let mut lab = lab();
    lab.see(redis(killed()));
    (0..3).for_each(|_| lab.answer(failing()));
    assert_eq!(incident(&lab).unwrap().verdict, Verdict::DependencyDown);
    lab.see(redis(ForeignStanding::Unknown("the host db-1 is silent".to_owned())));
    (0..3).for_each(|_| lab.answer(failing()));
    lab.wait(Duration::from_millis(600));
    let open = incident(&lab).unwrap();
    assert_eq!(open.verdict, Verdict::Unhealthy);
    assert!(open.summary.contains("db-1 is silent"), "{}", open.summary);
}

#[test]
fn the_word_that_a_cause_is_well_again_is_no_evidence_for_a_restart() {
    let mut lab = lab();
    lab.see(redis(killed()));
    (0..3).for_each(|_| lab.answer(failing()));
    assert_eq!(incident(&lab).unwrap().verdict, Verdict::DependencyDown);
    lab.see(redis(ForeignStanding::Well));
    lab.answer(failing());
    // Its grace to heal by itself is over. It is judged by what its own probes say then.
    lab.wait(Duration::from_secs(60));
    assert_eq!(lab.restarts_asked(), 0, "{:?}", incident(&lab));
    (0..3).for_each(|_| lab.answer(failing()));
    lab.wait(Duration::from_millis(600));
    let open = incident(&lab).unwrap();
    assert_eq!((open.verdict, lab.restarts_asked()), (Verdict::Unhealthy, 1), "{}", open.summary);
}

#[test]
fn a_service_that_was_healthy_without_it_for_long_does_not_blame_it() {
    let mut lab = lab();
    lab.see(redis(killed()));
    lab.wait(Duration::from_secs(20));
    lab.answer(ProbeOutcome::Ok);
    (0..3).for_each(|_| lab.answer(failing()));
    lab.wait(Duration::from_millis(600));
    assert_eq!(incident(&lab).unwrap().verdict, Verdict::Unhealthy);
}

#[test]
fn an_incident_names_what_is_held_on_other_hosts_and_alerts_even_if_it_is_over_soon() {
    let mut lab = lab();
    lab.killed(100);
    let held = vec![ServiceId(ServiceId::FIRST_FOREIGN), REDIS];
    lab.see(Observation::HeldElsewhere(API, held.clone()));
    assert_eq!(incident(&lab).unwrap().held, held);
    lab.comes_back(101);
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(incident(&lab), None);
    let alerts: Vec<_> = lab.alerts().into_iter().map(|(verdict, severity, _)| (verdict, severity)).collect();
    assert!(
        alerts.iter().all(|(verdict, severity)| *verdict == Verdict::Killed && *severity > Severity::Info)
    );
    assert!(!alerts.is_empty());
}

#[test]
fn silent_hosts_are_one_incident() {
    let mut lab = lab();
    let silent = |hosts: &[&str]| {
        let silent = hosts.iter().map(|host| (*host).to_owned()).collect();
        Observation::Fleet(FleetState { away: None, silent })
    };
    lab.see(silent(&["db-1"]));
    lab.see(silent(&["db-1", "db-2"]));
    lab.see(Observation::Fleet(FleetState { away: Some("x".to_owned()), silent: vec![] }));
    lab.see(silent(&["db-2"]));
    lab.see(silent(&[]));
    let phases: Vec<_> = lab.incidents().into_iter().map(|(phase, verdict, _)| (phase, verdict)).collect();
    assert_eq!(
        phases,
        [Phase::Open, Phase::Update, Phase::Update, Phase::Resolve].map(|phase| (phase, Verdict::HostSilent))
    );
    assert_eq!(lab.alerts().len(), 2);
}
