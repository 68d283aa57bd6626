//! Probes, listeners and limits.

use super::*;

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
fn one_failure_is_called_once_and_several_are_counted() {
    for (failures, words) in [(1, "its probe failed once: "), (2, "its probe failed 2 times in a row: ")] {
        let mut lab = Lab::new(exec_identity(), vec![Probe { failures, ..http_probe() }], policy());
        lab.wait(LATER);
        for _ in 0..failures {
            lab.answer(ProbeOutcome::Failed(ProbeFailure::Status, "status 503".into()));
        }
        let summary = lab.engine.view().next().unwrap().incident.unwrap().summary;
        assert!(summary.contains(words) && !summary.contains("1 time"), "{summary}");
    }
}

#[test]
fn counters_start_again_after_a_restart() {
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
fn a_restarted_service_that_is_loading_is_shown_with_its_own_report() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Running(API, process(101)));
    lab.answer(ProbeOutcome::Starting("LOADING 40 %".into()));
    let view = lab.engine.view().next().unwrap();
    assert_eq!(view.state, ServiceState::Starting);
    assert_eq!(view.error.as_deref(), Some("it reports that it is starting: LOADING 40 %"));
    assert!(view.incident.is_some(), "its incident is over only once it has loaded");
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.engine.view().next().unwrap().incident, None);
}

#[test]
fn a_service_that_is_starting_for_too_long_is_reported_and_not_restarted() {
    let mut lab = Lab::exec();
    let starting = || ProbeOutcome::Starting("the database system is not accepting connections".into());
    lab.answer(starting());
    lab.wait(Duration::from_secs(280));
    lab.answer(starting());
    assert_eq!(lab.incidents(), []);
    lab.wait(Duration::from_secs(30));
    for _ in 0..3 {
        lab.answer(starting());
    }
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Unhealthy, Severity::Critical)]);
    assert_eq!(lab.restarts_asked(), 0);
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.state(), ServiceState::Healthy);
    assert_eq!(lab.engine.view().next().unwrap().incident, None);
}

#[test]
fn a_service_that_reports_loading_is_starting_not_failing() {
    let mut lab = Lab::exec();
    lab.wait(Duration::from_secs(60));
    for _ in 0..10 {
        lab.answer(ProbeOutcome::Starting("LOADING".into()));
    }
    assert_eq!(lab.incidents(), []);
    assert_eq!(lab.state(), ServiceState::Starting);
}

#[test]
fn a_wrong_password_causes_no_restart() {
    let mut lab = Lab::exec();
    lab.wait(Duration::from_secs(60));
    for _ in 0..3 {
        lab.answer(ProbeOutcome::Failed(ProbeFailure::Auth, "password refused".into()));
    }
    assert_eq!(lab.incidents()[0].1, Verdict::Unhealthy);
    assert_eq!(lab.restarts_asked(), 0);
}

#[test]
fn a_restart_is_done_only_for_a_failure_that_it_can_mend_and_a_hold_says_why() {
    for failure in ProbeFailure::ALL {
        let mut lab = Lab::exec();
        lab.wait(Duration::from_secs(60));
        for _ in 0..3 {
            lab.answer(ProbeOutcome::Failed(failure, "as it says".into()));
            lab.see(Observation::Examined(API, Some(at_work())));
        }
        lab.see(snapshot());
        let rule = rules::of_failure(failure);
        assert_eq!(lab.incidents()[0].1, rule.alive, "{failure:?}");
        let restarts = rule.mend == rules::Mend::Restart;
        assert_eq!(lab.restarts_asked() == 1, restarts, "{failure:?}");
        let held = lab.restarts().iter().any(|it| it.action == Action::Hold(rule.reason.to_owned()));
        assert_eq!(held, rule.mend == rules::Mend::Hold, "{failure:?}");
    }
}

#[test]
fn an_answer_of_the_previous_process_does_not_prove_the_new_one_healthy() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Running(API, process(101)));
    let stale = ProbeReport {
        service: API,
        index: 0,
        at: lab.now.plus(Duration::from_millis(1)),
        kind: ProbeKind::Http,
        target: String::new(),
        duration: Duration::from_millis(20),
        outcome: ProbeOutcome::Ok,
        hurried: None,
        remark: None,
        server: None,
    };
    lab.see(Observation::Probe(stale));
    assert_eq!(lab.incidents().len(), 1);
}

pub(super) fn listener(lab: &Lab, up: bool) -> Observation {
    let listener = Listener {
        at: lab.now,
        up,
        address: [127, 0, 0, 1].into(),
        port: 8080,
        source: Source::Ebpf,
        process: process(100),
    };
    Observation::Listener(listener, API, EventId(901))
}

#[test]
fn a_listener_that_stays_away_is_not_listening() {
    let mut lab = Lab::exec();
    lab.see(listener(&lab, true));
    lab.see(listener(&lab, false));
    lab.wait(Duration::from_millis(300));
    lab.see(Observation::ListenerChecked(API, 8080, false));
    assert_eq!(lab.incidents()[0].1, Verdict::NotListening);
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn a_reopened_listener_or_a_dead_process_is_not_a_missing_listener() {
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
fn a_listener_older_than_the_daemon_counts_and_one_of_two_is_enough() {
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
fn a_probe_from_before_the_listener_closed_proves_nothing() {
    let mut lab = Lab::exec();
    lab.see(listener(&lab, true));
    // The answer comes 5 ms from now, from a probe that began 1 ms before.
    let gone = lab.now.plus(Duration::from_micros(4500));
    let before = std::mem::replace(&mut lab.now, gone);
    lab.see(listener(&lab, false));
    lab.now = before;
    lab.answer(ProbeOutcome::Ok);
    lab.wait(Duration::from_secs(1));
    assert_eq!(lab.incidents()[0].1, Verdict::NotListening);
}

#[test]
fn a_limit_exceeded_is_degraded() {
    let mut lab = Lab::exec();
    let use_threads = |lab: &mut Lab, threads| {
        lab.see(Observation::Usage(API, ResourceUsage { threads, ..ResourceUsage::default() }));
    };
    use_threads(&mut lab, 11);
    assert_eq!(lab.state(), ServiceState::Healthy, "one sample is noise");
    use_threads(&mut lab, 12);
    assert_eq!(lab.state(), ServiceState::Degraded);
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::LimitExceeded, Severity::Warning)]);
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.state(), ServiceState::Degraded, "its probes are not what is wrong");
    use_threads(&mut lab, 9);
    use_threads(&mut lab, 9);
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.state(), ServiceState::Healthy);
    assert_eq!(lab.restarts_asked(), 0);
}

#[test]
fn a_worse_incident_alerts_again_if_it_lasts_and_its_times_start_again() {
    let mut lab = Lab::exec();
    let usage = |threads| Observation::Usage(API, ResourceUsage { threads, ..ResourceUsage::default() });
    lab.see(usage(11));
    lab.see(usage(12));
    lab.wait(LATER);
    assert_eq!(lab.alerts(), [(Verdict::LimitExceeded, Severity::Warning, false)]);
    lab.killed(100);
    assert_eq!(lab.alerts().len(), 1, "it may heal at once");
    let incident = lab.engine.view().next().unwrap().incident.unwrap();
    assert_eq!(incident.timing.acted, Some(Duration::ZERO));
    lab.wait(Duration::from_secs(11));
    assert_eq!(lab.alerts()[1..], [(Verdict::Killed, Severity::Critical, false)]);
}

#[test]
fn a_breach_of_the_previous_process_does_not_count_for_the_next() {
    let mut lab = Lab::exec();
    let usage = |threads| Observation::Usage(API, ResourceUsage { threads, ..ResourceUsage::default() });
    lab.see(usage(11));
    lab.see(usage(12));
    lab.killed(100);
    lab.comes_back(101);
    assert_eq!(lab.state(), ServiceState::Healthy);
    lab.see(usage(1));
    assert_eq!(lab.state(), ServiceState::Healthy);
}

#[test]
fn a_service_without_probes_is_healthy_once_it_has_stayed_up() {
    let mut lab = Lab::new(exec_identity(), vec![], policy());
    lab.killed(100);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Running(API, process(101)));
    lab.wait(Duration::from_millis(900));
    assert_eq!(lab.incidents().len(), 1);
    lab.wait(Duration::from_millis(200));
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
}

#[test]
fn a_failure_that_becomes_mendable_is_restarted() {
    let mut lab = Lab::exec();
    lab.wait(LATER);
    for _ in 0..3 {
        lab.answer(ProbeOutcome::Failed(ProbeFailure::Auth, "401".into()));
    }
    assert_eq!((lab.incidents()[0].1, lab.restarts_asked()), (Verdict::Unhealthy, 0));
    // A service that works and refuses the probe is not restarted for one failure after that.
    for restarts in [0, 0, 1] {
        lab.answer(ProbeOutcome::Failed(ProbeFailure::Status, "500".into()));
        assert_eq!(lab.restarts_asked(), restarts);
    }
}

#[test]
fn failures_that_a_restart_may_mend_count_from_the_last_one_that_it_may_not() {
    let mut lab = Lab::exec();
    lab.wait(LATER);
    for failure in [ProbeFailure::Reset, ProbeFailure::Busy, ProbeFailure::Reset, ProbeFailure::Auth] {
        for _ in 0..2 {
            lab.answer(ProbeOutcome::Failed(failure, "as it says".into()));
            assert_eq!(lab.restarts_asked(), 0, "{failure:?}");
        }
    }
    lab.wait(Duration::from_millis(500));
    assert_eq!(lab.alerts().len(), 1, "it is of no use to its clients, and the receivers get that");
    for restarts in [0, 0, 1] {
        lab.answer(ProbeOutcome::Failed(ProbeFailure::Reset, "reset".into()));
        assert_eq!(lab.restarts_asked(), restarts);
    }
    assert!(lab.engine.incident(API).unwrap().summary.contains("3 times"), "{:?}", lab.engine.incident(API));
}

#[test]
fn a_probe_that_fails_before_the_command_has_started_does_not_count() {
    let probe = Probe { failures: 1, ..http_probe() };
    let mut lab = Lab::of(false, &[service("api", exec_identity(), vec![probe], policy())]);
    lab.refuse();
    lab.see(Observation::Running(API, process(100)));
    lab.answer(ProbeOutcome::Ok);
    assert!(lab.incidents().is_empty() && lab.restarts_asked() == 0, "{:?}", lab.incidents());
}

#[test]
fn a_replica_beyond_its_lag_is_degraded_and_restarted_by_nothing() {
    let server = ServerLimits { lag: Some(Duration::from_secs(10)), ..ServerLimits::default() };
    let probe = Probe { kind: ProbeKind::Redis, server, ..http_probe() };
    let mut lab = Lab::new(exec_identity(), vec![probe], policy());
    lab.wait(LATER);
    let seconds = |number: &mut Lab, lag: u64| number.lag(Duration::from_secs(lag));
    for lag in [11, 12, 9, 11, 12] {
        seconds(&mut lab, lag);
    }
    assert_eq!(lab.incidents(), [], "three in a row count");
    seconds(&mut lab, 13);
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::LimitExceeded, Severity::Warning)]);
    assert_eq!(lab.engine.view().next().unwrap().state, ServiceState::Degraded);
    seconds(&mut lab, 10);
    assert_eq!(lab.incidents().len(), 1, "it is not well below yet");
    seconds(&mut lab, 8);
    assert_eq!(lab.incidents().last().map(|(phase, ..)| *phase), Some(Phase::Resolve));
    assert_eq!(lab.restarts_asked(), 0);
}

/// An answer that is right, with what is wrong beside it.
fn expiring(lab: &mut Lab, remark: Option<&str>) {
    lab.now = lab.now.plus(Duration::from_secs(10));
    let answer = ProbeReport {
        service: API,
        index: 0,
        at: lab.now,
        kind: ProbeKind::Http,
        target: String::new(),
        duration: Duration::from_millis(20),
        outcome: ProbeOutcome::Ok,
        hurried: None,
        remark: remark.map(str::to_owned),
        server: None,
    };
    lab.see(Observation::Probe(answer));
}

#[test]
fn a_certificate_that_expires_soon_makes_degraded_and_never_restarts() {
    let mut lab = Lab::exec();
    lab.answer(ProbeOutcome::Ok);
    lab.wait(LATER);
    for _ in 0..2 {
        expiring(&mut lab, Some("the certificate of api expires on 2026-12-06 10:00 UTC"));
        assert_eq!(lab.incidents().len(), 0, "as many answers as `failures` are needed");
    }
    expiring(&mut lab, Some("the certificate of api expires on 2026-12-06 10:00 UTC"));
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::LimitExceeded, Severity::Warning)]);
    assert_eq!((lab.restarts_asked(), lab.restarts().len()), (0, 0));
    // A hang meanwhile takes as many failures as ever.
    for _ in 0..2 {
        lab.answer(ProbeOutcome::Failed(ProbeFailure::Refused, "connection refused".into()));
    }
    assert_eq!(lab.restarts_asked(), 0);
    expiring(&mut lab, None);
    assert_eq!(lab.incidents().last().map(|it| it.0), Some(Phase::Resolve));
}

#[test]
fn a_crash_of_a_service_whose_certificate_expires_is_mended_as_ever() {
    let mut lab = Lab::exec();
    lab.answer(ProbeOutcome::Ok);
    lab.wait(LATER);
    for _ in 0..3 {
        expiring(&mut lab, Some("the certificate of api expires on 2026-12-06 10:00 UTC"));
    }
    lab.killed(100);
    assert_eq!(lab.restarts_asked(), 1);
}
