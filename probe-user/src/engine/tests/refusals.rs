//! Probes that are refused while the process lives, and probes that were never answered.

use super::*;

/// A service whose failures count, and whose probe has never been answered.
fn unanswered() -> Lab {
    let mut lab = Lab::of(false, &[service("api", exec_identity(), vec![http_probe()], policy())]);
    lab.see(Observation::Running(API, process(100)));
    lab.wait(LATER);
    lab
}

fn well() -> Lab {
    let mut lab = Lab::exec();
    lab.wait(LATER);
    lab
}

fn checks(lab: &Lab) -> usize {
    lab.requested.iter().filter(|it| **it == Effect::FindListener { service: API, port: 8080 }).count()
}

fn opens(lab: &mut Lab) {
    let process = process(100);
    let address = [127, 0, 0, 1].into();
    let listener = Listener { at: lab.now, up: true, address, port: 8080, source: Source::Ebpf, process };
    lab.see(Observation::Listener(listener, API, EventId(901)));
}

fn summary(lab: &Lab) -> String {
    lab.engine.view().next().unwrap().incident.unwrap().summary
}

#[test]
fn a_firewall_that_rejects_is_a_network_fault_until_the_listener_is_gone() {
    let mut lab = well();
    lab.listens = Some(true);
    for _ in 0..3 {
        lab.refuse();
    }
    assert_eq!((lab.incidents(), checks(&lab)), (vec![], 1), "the next probe decides");
    assert!(lab.requested.contains(&Effect::ProbeNow(API)));
    lab.refuse();
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Network, Severity::Critical)]);
    assert!(summary(&lab).contains("although the service listens on it"), "{}", summary(&lab));
    for _ in 0..5 {
        lab.refuse();
    }
    assert_eq!((lab.restarts_asked(), checks(&lab)), (0, 1));
    lab.wait(Duration::from_secs(11));
    lab.listens = Some(false);
    lab.refuse();
    assert_eq!((lab.restarts_asked(), checks(&lab)), (1, 2));
    assert_eq!(lab.incidents().last().unwrap().1, Verdict::NotListening);
}

#[test]
fn a_refusal_without_a_listener_is_judged_at_once() {
    let mut lab = well();
    for _ in 0..3 {
        lab.refuse();
    }
    assert_eq!(lab.incidents()[0].1, Verdict::NotListening);
    assert_eq!((lab.restarts_asked(), checks(&lab)), (1, 1));
}

#[test]
fn without_an_answer_the_listeners_that_the_kernel_reported_decide() {
    for (is_open, verdict) in [(true, Verdict::Network), (false, Verdict::NotListening)] {
        let mut lab = well();
        lab.listens = None;
        if is_open {
            opens(&mut lab);
        }
        for _ in 0..3 {
            lab.refuse();
        }
        assert_eq!(lab.incidents(), []);
        lab.wait(Duration::from_secs(3));
        assert_eq!(lab.incidents()[0].1, verdict);
    }
}

#[test]
fn a_port_that_the_service_never_had_is_held_and_one_that_it_lost_is_not() {
    let mut lab = unanswered();
    for _ in 0..6 {
        lab.refuse();
    }
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Unhealthy, Severity::Critical)]);
    assert!(
        summary(&lab).contains("nothing of this service ever listened on port 8080"),
        "{}",
        summary(&lab)
    );
    assert_eq!(lab.restarts().last().unwrap().action, Action::Hold(rules::UNANSWERED.into()));
    assert_eq!(lab.restarts_asked(), 0);
    // It opens the port, and is healthy.
    opens(&mut lab);
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.state(), ServiceState::Healthy);

    let mut lab = unanswered();
    opens(&mut lab);
    lab.refuse();
    lab.refuse();
    lab.refuse();
    assert_eq!((lab.incidents()[0].1, lab.restarts_asked()), (Verdict::NotListening, 1));
}

#[test]
fn a_service_that_does_not_listen_again_after_its_restart_is_restarted_again() {
    let mut lab = well();
    lab.killed(100);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Running(API, process(101)));
    lab.wait(LATER);
    for _ in 0..3 {
        lab.refuse();
    }
    lab.wait(LATER);
    assert_eq!(lab.restarts_asked(), 2);
}

/// A process of an earlier one that has answered, after its grace, with what each examination of it finds.
fn started_again(seen: impl Fn() -> Examination) -> impl FnMut(&mut Lab) {
    move |lab: &mut Lab| {
        lab.refuse();
        if lab.requested.iter().any(|it| matches!(it, Effect::Examine { .. })) {
            lab.requested.retain(|it| !matches!(it, Effect::Examine { .. }));
            lab.see(Observation::Examined(API, Some(seen())));
        }
    }
}

#[test]
fn a_service_that_works_on_its_start_after_its_grace_is_not_restarted_until_that_takes_too_long() {
    let mut lab = well();
    lab.killed(100);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Running(API, ProcessKey { start: lab.now, ..process(101) }));
    lab.wait(LATER);
    let mut refuse = started_again(|| Examination { cpu: Duration::from_millis(150), ..at_work() });
    for _ in 0..20 {
        refuse(&mut lab);
        lab.wait(Duration::from_secs(5));
    }
    assert_eq!(lab.restarts_asked(), 1, "the one after the kill");
    lab.wait(Duration::from_secs(300));
    for _ in 0..3 {
        refuse(&mut lab);
    }
    lab.wait(LATER);
    assert_eq!(lab.restarts_asked(), 2);
}

#[test]
fn a_service_that_does_nothing_after_its_grace_is_restarted() {
    let mut lab = well();
    lab.killed(100);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Running(API, ProcessKey { start: lab.now, ..process(101) }));
    lab.wait(LATER);
    let mut refuse = started_again(|| Examination { cpu: Duration::ZERO, ..at_work() });
    for _ in 0..3 {
        refuse(&mut lab);
    }
    lab.wait(LATER);
    assert_eq!(lab.restarts_asked(), 2);
}

#[test]
fn a_probe_that_asks_or_expects_the_wrong_thing_is_held_until_it_has_been_answered_rightly() {
    const NO_ANSWER: &str = "it has never answered this probe";
    const NO_RIGHT_ONE: &str = "no answer to this probe was ever right";
    let failures = [
        (ProbeFailure::Protocol, NO_ANSWER),
        (ProbeFailure::Reset, NO_ANSWER),
        (ProbeFailure::Timeout, NO_ANSWER),
        (ProbeFailure::Status, NO_RIGHT_ONE),
        (ProbeFailure::Body, NO_RIGHT_ONE),
    ];
    for (failure, why) in failures {
        let mut lab = unanswered();
        let fail = |lab: &mut Lab| {
            for _ in 0..6 {
                lab.answer(ProbeOutcome::Failed(failure, "as it says".into()));
                lab.see(Observation::Examined(API, Some(at_work())));
            }
            lab.see(snapshot());
        };
        fail(&mut lab);
        assert_eq!((lab.incidents()[0].1, lab.restarts_asked()), (Verdict::Unhealthy, 0), "{failure:?}");
        assert!(summary(&lab).contains(why), "{}", summary(&lab));
        lab.answer(ProbeOutcome::Ok);
        fail(&mut lab);
        assert_eq!(lab.restarts_asked(), 1, "{failure:?}");
    }
}

#[test]
fn a_probe_that_cannot_be_made_is_held_and_is_no_trouble_of_the_daemon() {
    let mut lab = well();
    for _ in 0..3 {
        lab.answer(ProbeOutcome::Failed(ProbeFailure::CannotAsk, "the redis probe cannot do TLS".into()));
    }
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Unhealthy, Severity::Critical)]);
    assert_eq!(lab.restarts_asked(), 0);
}
