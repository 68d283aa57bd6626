//! Listeners that stay full.

use super::*;
use crate::fact::Response;

fn full(lab: &mut Lab, seconds: u64) {
    for _ in 0..seconds {
        lab.wait(Duration::from_secs(1));
        let address = [127, 0, 0, 1].into();
        let queue = AcceptQueue {
            at: lab.now,
            source: Source::Proc,
            address,
            port: 8080,
            waiting: 129,
            backlog: 128,
        };
        lab.see(Observation::AcceptQueue(queue, API, EventId(930)));
    }
}

fn with_response(response: Response) -> Lab {
    let mut api = service("api", exec_identity(), vec![http_probe()], policy());
    api.policy.backlog_full = response;
    let mut lab = Lab::of(false, &[api]);
    lab.see(Observation::Running(API, process(100)));
    lab.answer(ProbeOutcome::Ok);
    lab.wait(Duration::from_secs(60));
    lab
}

#[test]
fn a_listener_that_stays_full_alerts_with_its_address_and_backlog_and_is_not_restarted() {
    let mut lab = with_response(Response::Alert);
    full(&mut lab, 9);
    assert_eq!(lab.incidents(), [], "a burst");
    full(&mut lab, 3);
    assert_eq!(lab.incidents()[0], (Phase::Open, Verdict::BacklogFull, Severity::Critical));
    assert_eq!(lab.alerts(), [(Verdict::BacklogFull, Severity::Critical, false)]);
    let incident = lab.engine.view().next().unwrap().incident.unwrap();
    let words = "it accepts too few of its connections on 127.0.0.1:8080: 129 wait, its backlog is 128";
    assert!(incident.summary.starts_with(words), "{}", incident.summary);
    assert_eq!(incident.evidence, [EventId(930)]);
    assert_eq!(lab.restarts_asked(), 0);
    assert!(matches!(lab.restarts()[0].action, Action::Hold(_)));
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.state(), ServiceState::Degraded);
    lab.wait(Duration::from_secs(11));
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
    assert_eq!(lab.state(), ServiceState::Healthy);
}

#[test]
fn a_short_queue_that_is_full_now_and_then_is_no_fault() {
    let mut lab = with_response(Response::Alert);
    for seconds in [3, 0, 2, 4, 1, 3, 0, 0, 4, 2, 1, 3, 0, 4, 2, 1] {
        lab.wait(Duration::from_secs(seconds));
        full(&mut lab, 1);
    }
    assert_eq!(lab.incidents(), []);
}

#[test]
fn a_queue_that_is_sampled_every_two_seconds_is_found_as_well() {
    let mut lab = with_response(Response::Alert);
    for _ in 0..6 {
        lab.wait(Duration::from_secs(1));
        full(&mut lab, 1);
    }
    assert_eq!(lab.incidents()[0].1, Verdict::BacklogFull);
}

#[test]
fn bursts_with_room_between_them_are_no_fault() {
    let mut lab = with_response(Response::Alert);
    for _ in 0..10 {
        full(&mut lab, 5);
        lab.wait(Duration::from_secs(6));
    }
    assert_eq!(lab.incidents(), []);
}

#[test]
fn probes_that_fail_say_more_than_a_full_listener() {
    let mut lab = with_response(Response::Alert);
    lab.answer(ProbeOutcome::Failed(ProbeFailure::Timeout, "no answer".into()));
    full(&mut lab, 30);
    assert_eq!(lab.incidents(), []);
    let mut lab = with_response(Response::Alert);
    full(&mut lab, 12);
    time_out(&mut lab, 3);
    assert_eq!(lab.incidents().last().unwrap().1, Verdict::Hung, "{:?}", lab.incidents());
}

#[test]
fn a_policy_decides_on_a_full_listener() {
    let mut lab = with_response(Response::Ignore);
    full(&mut lab, 30);
    assert_eq!(lab.incidents(), []);
    let mut lab = with_response(Response::Restart);
    full(&mut lab, 12);
    assert_eq!(lab.restarts_asked(), 1);
}
