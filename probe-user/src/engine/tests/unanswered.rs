//! Services that are proved to be stuck while attempts of a probe still wait.

use super::{
    hangs::{grown_up, idle, stuck, timeout},
    *,
};
use crate::fact::{FrozenCgroup, Pressure, Tracer, Unanswered};

/// Each thread waits for another one, and two requests of the daemon are unanswered.
fn asked_twice() -> Examination {
    Examination { locked: true, unanswered: 2, over: Examination::OVER_BEFORE_TIMEOUT, ..idle(0) }
}

/// Two attempts have waited since `since`, and this was seen until now.
fn see_unanswered(lab: &mut Lab, since: Timestamp, seen: Examination) {
    let target = "http://127.0.0.1:8080/".to_owned();
    let unanswered = Unanswered { service: API, index: 0, kind: ProbeKind::Http, target, since };
    lab.see(Observation::Unanswered(unanswered, Examination { at: lab.now, ..seen }));
}

/// The attempts begin, wait for 560 ms, and this is seen.
fn wait_in_vain(lab: &mut Lab, seen: Examination) {
    let since = lab.now;
    lab.wait(Duration::from_millis(560));
    see_unanswered(lab, since, seen);
}

#[test]
fn two_requests_at_a_stuck_process_are_a_hang_before_the_first_has_timed_out() {
    let mut lab = grown_up();
    wait_in_vain(&mut lab, asked_twice());
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Hung, Severity::Critical)]);
    let incident = lab.engine.incident(API).unwrap();
    assert_eq!(
        incident.summary.to_string(),
        "its process lives and does not answer: each of its threads waits for another one; its probe failed once: \
         http://127.0.0.1:8080/ has answered neither of two requests after 560 ms"
    );
    assert!(matches!(lab.published[0], Fact::Probe(..)), "{:?}", lab.published);
    assert_eq!(incident.evidence, [EventId(1)]);
    assert_eq!(lab.restarts_asked(), 0, "the snapshot comes first");
    lab.see(snapshot());
    assert_eq!(lab.restarts_asked(), 1);
    lab.comes_back(101);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
}

#[test]
fn the_timeouts_of_these_attempts_add_no_second_failure() {
    let mut lab = Lab::new(exec_identity(), vec![http_probe()], RestartPolicy::default());
    lab.wait(LATER);
    let start = lab.now;
    wait_in_vain(&mut lab, asked_twice());
    for begun in [0, 250] {
        hangs::unanswered(&mut lab, API, start, Duration::from_millis(begun));
        lab.see(Observation::Examined(API, Some(stuck(0))));
    }
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Hung, Severity::Critical)]);
    assert_eq!(lab.restarts_asked(), 0, "it is not to be restarted");
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
}

/// Nothing follows from it now. The timeouts count as without it.
#[track_caller]
fn is_no_proof(mut lab: Lab, seen: Examination, why: &str) {
    lab.published.clear();
    wait_in_vain(&mut lab, seen);
    assert_eq!((lab.incidents(), lab.restarts_asked()), (vec![], 0), "{why}");
    assert!(!lab.published.iter().any(|fact| matches!(fact, Fact::Probe(..))), "{why}");
}

#[test]
fn a_service_that_may_still_answer_has_its_whole_timeout() {
    let but = |change: fn(&mut Examination), why: &str| {
        let mut seen = asked_twice();
        change(&mut seen);
        is_no_proof(grown_up(), seen, why);
    };
    but(|seen| seen.locked = false, "a disk, a server or a timer may wake it");
    but(|seen| seen.switches = 1, "it does something");
    but(|seen| seen.cpu = Duration::from_micros(1), "it computes");
    but(|seen| seen.starving = 1, "it waits for a CPU");
    but(|seen| seen.unanswered = 1, "one request may be lost");
    but(|seen| (seen.unanswered, seen.abandoned) = (0, 7), "clients may have left it long ago");
    but(|seen| seen.over = Examination::OVER, "it was seen for too short a time");
    but(|seen| seen.dumping_core = Some(100), "it writes its core dump");
    but(|seen| seen.tracer = Some(Tracer { pid: 9, name: "gdb".into() }), "a debugger holds it");
    let frozen = |seen: &mut Examination| {
        seen.frozen = Some(FrozenCgroup { path: "/api".into(), container: None, unit: None });
    };
    but(frozen, "it is paused");
}

#[test]
fn a_hang_before_a_timeout_needs_a_quiet_host_a_daemon_in_time_and_no_other_cause() {
    let mut lab = grown_up();
    lab.see(Observation::Pressure(Pressure { at: lab.now, cpu: Some(0.95), ..Pressure::default() }));
    is_no_proof(lab, asked_twice(), "the host is pressed");

    let mut lab = grown_up();
    let late = Duration::from_secs(3);
    lab.see(Observation::Pressure(Pressure { at: lab.now, late, ..Pressure::default() }));
    is_no_proof(lab, asked_twice(), "hostprobe itself is late");

    let specs = ["api", "store"].map(|name| service(name, exec_identity(), vec![http_probe()], policy()));
    let both = || {
        let mut lab = Lab::of(false, &specs);
        for id in [API, ServiceId(1)] {
            lab.see(Observation::Running(id, process(100 + id.0)));
            lab.answer_of(id, ProbeOutcome::Ok);
        }
        lab.wait(LATER);
        lab.answer_of(API, ProbeOutcome::Ok);
        lab
    };
    let mut lab = both();
    lab.see(Observation::Connected { client: API, server: ServiceId(1) });
    is_no_proof(lab, asked_twice(), "it may wait for the other service");

    let mut lab = both();
    lab.answer_of(ServiceId(1), timeout());
    is_no_proof(lab, asked_twice(), "another one is silent as well");

    let mut lab = both();
    wait_in_vain(&mut lab, asked_twice());
    assert_eq!(lab.incidents()[0].1, Verdict::Hung, "the other one is well");
}

#[test]
fn only_the_silence_of_a_process_that_has_answered_before_is_judged_before_a_timeout() {
    is_no_proof(Lab::exec(), asked_twice(), "it is in the grace after its start");

    let mut lab = Lab::of(false, &[service("api", exec_identity(), vec![http_probe()], policy())]);
    lab.see(Observation::Running(API, process(100)));
    lab.wait(LATER);
    is_no_proof(lab, asked_twice(), "the probe may be wrong");

    let mut lab = grown_up();
    lab.answer(timeout());
    lab.see(Observation::Examined(API, Some(at_work())));
    is_no_proof(lab, asked_twice(), "its timeouts are counted already");

    let mut lab = grown_up();
    let since = lab.now;
    lab.answer_after(API, Duration::from_millis(500), ProbeOutcome::Ok);
    see_unanswered(&mut lab, since, asked_twice());
    assert_eq!(lab.incidents(), [], "it has answered meanwhile");

    let mut lab = grown_up();
    let since = lab.now;
    lab.see(Observation::Running(API, process(101)));
    lab.wait(LATER);
    see_unanswered(&mut lab, since, asked_twice());
    assert_eq!(lab.incidents(), [], "another process was asked");
}
