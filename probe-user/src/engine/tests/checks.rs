//! Failures of checks, jobs, DNS servers and echoes: what restarts a service, and what never does.

use super::*;

/// A service under the supervisor whose probe fails three times with this failure, after it was right `before`.
fn after_three(failure: ProbeFailure, before: bool) -> Lab {
    let mut lab = Lab::exec();
    lab.wait(LATER);
    if before {
        lab.answer(ProbeOutcome::Ok);
    }
    for _ in 0..3 {
        lab.answer(ProbeOutcome::Failed(failure, "it is so".to_owned()));
    }
    lab
}

#[test]
fn a_check_that_warns_degrades_a_service_and_restarts_nothing() {
    let mut lab = after_three(ProbeFailure::PluginWarning, true);
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::LimitExceeded, Severity::Warning)]);
    assert_eq!((lab.state(), lab.restarts_asked()), (ServiceState::Degraded, 0));
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
    assert_eq!(lab.state(), ServiceState::Healthy);
}

#[test]
fn a_check_that_warned_and_then_fails_restarts_the_service() {
    let mut lab = after_three(ProbeFailure::PluginWarning, true);
    for _ in 0..3 {
        lab.answer(ProbeOutcome::Failed(ProbeFailure::PluginCritical, "it is down".to_owned()));
    }
    assert_eq!(lab.incidents().last().unwrap().1, Verdict::Unhealthy);
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn a_check_that_fails_restarts_a_service_that_it_has_found_healthy() {
    let lab = after_three(ProbeFailure::PluginCritical, true);
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Unhealthy, Severity::Critical)]);
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn what_says_nothing_of_the_service_restarts_nothing() {
    let cases = [
        (ProbeFailure::PluginUnknown, Verdict::Unhealthy),
        (ProbeFailure::PluginTimeout, Verdict::Unhealthy),
        (ProbeFailure::Silent, Verdict::Unhealthy),
        (ProbeFailure::Answer, Verdict::Unhealthy),
        (ProbeFailure::NoEcho, Verdict::Network),
    ];
    for (failure, verdict) in cases {
        for before in [true, false] {
            let lab = after_three(failure, before);
            assert_eq!(lab.incidents(), [(Phase::Open, verdict, Severity::Critical)], "{failure:?}");
            assert_eq!(lab.restarts_asked(), 0, "{failure:?}");
        }
    }
}
