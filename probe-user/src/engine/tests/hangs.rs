//! Services that live and do not answer.

use super::*;
use crate::fact::{AcceptQueue, Peer, Pressure, Retransmits, Suspension};

pub(super) fn timeout() -> ProbeOutcome {
    ProbeOutcome::Failed(ProbeFailure::Timeout, "no answer".into())
}

pub(super) fn queue(waiting: u32) -> Option<AcceptQueue> {
    let address = [127, 0, 0, 1].into();
    Some(AcceptQueue { at: at(1000), source: Source::Proc, address, port: 8080, waiting, backlog: 128 })
}

pub(super) fn idle(waiting: u32) -> Examination {
    let over = Duration::from_millis(200);
    Examination { over, threads: 4, queue_before: queue(0), queue: queue(waiting), ..Examination::default() }
}

/// Each thread waits for another one, the latest probe waits to be accepted, and so do more and more clients.
pub(super) fn stuck(clients: u32) -> Examination {
    let (clients_before, clients) = (Some(0), Some(clients));
    Examination { locked: true, abandoned: 1, clients_before, clients, ..idle(1 + clients.unwrap_or(0)) }
}

fn stopped() -> Examination {
    Examination { stopped: true, ..idle(0) }
}

pub(super) fn grown_up() -> Lab {
    let mut lab = Lab::exec();
    lab.wait(LATER);
    lab
}

fn stop_signal(lab: &Lab) -> Observation {
    let stop = Suspension { at: lab.now, process: process(100), signal: 19, sender: Some(bash()) };
    Observation::Suspended(stop, API, EventId(902))
}

#[test]
fn timeouts_without_other_evidence_are_a_hang_after_the_usual_count() {
    let mut lab = grown_up();
    time_out(&mut lab, 2);
    assert_eq!(lab.incidents(), []);
    time_out(&mut lab, 1);
    assert_eq!(lab.incidents()[0].1, Verdict::Hung);
    assert_eq!(lab.restarts_asked(), 0, "the snapshot comes first");
    lab.see(snapshot());
    assert_eq!(lab.restarts_asked(), 1);
    lab.comes_back(101);
    let Some(Fact::Incident(Phase::Resolve, incident)) =
        lab.published.iter().rev().find(|fact| matches!(fact, Fact::Incident(..)))
    else {
        panic!("the incident is still open")
    };
    assert!(incident.snapshot.is_some());
}

#[test]
fn an_examination_starts_at_the_first_timeout_or_at_a_stop_signal() {
    let probe = Probe { timeout: Duration::from_millis(200), ..http_probe() };
    let mut lab = Lab::new(exec_identity(), vec![probe], policy());
    lab.wait(LATER);
    let begun = lab.now.plus(Duration::from_millis(4));
    lab.answer_after(API, Duration::from_millis(200), timeout());
    let (half, over) = (Duration::from_millis(100), Duration::from_millis(200));
    let ahead = Some(EarlySample { since: begun, over: half });
    assert_eq!(lab.requested, [Effect::Examine { service: API, over, ahead }]);

    let mut lab = grown_up();
    lab.requested.clear();
    lab.see(stop_signal(&lab));
    let whole = Duration::from_millis(400);
    assert_eq!(lab.requested, [Effect::Examine { service: API, over: whole, ahead: None }]);
}

#[test]
fn a_stuck_process_with_more_and_more_clients_is_a_hang_at_the_first_timeout() {
    let mut lab = grown_up();
    lab.answer(timeout());
    lab.see(Observation::Examined(API, Some(stuck(3))));
    assert_eq!(lab.incidents()[0].1, Verdict::Hung);
}

/// A service whose probe counts at its first failure hangs, is restarted, and has not answered since.
fn restarted_after_a_hang() -> Lab {
    let probe = Probe { failures: 1, ..http_probe() };
    let mut lab = Lab::new(exec_identity(), vec![probe], policy());
    lab.wait(LATER);
    lab.answer(timeout());
    assert_eq!(lab.incidents(), [], "the examination is under way");
    lab.see(Observation::Examined(API, Some(at_work())));
    assert_eq!(lab.incidents()[0].1, Verdict::Hung);
    lab.see(snapshot());
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Running(API, process(101)));
    assert_eq!(lab.restarts_asked(), 1);
    lab.wait(LATER);
    lab
}

#[test]
fn a_second_hang_before_the_first_answer_after_a_restart_is_restarted_too() {
    let mut lab = restarted_after_a_hang();
    lab.answer(timeout());
    lab.see(Observation::Examined(API, Some(at_work())));
    lab.wait(LATER);
    assert_eq!(lab.restarts_asked(), 2);

    let mut lab = restarted_after_a_hang();
    lab.answer(timeout());
    lab.see(Observation::Examined(API, Some(stopped())));
    lab.wait(LATER);
    assert_eq!(lab.restarts_asked(), 2, "stopped by a signal");

    let mut lab = restarted_after_a_hang();
    lab.answer(timeout());
    lab.wait(LATER);
    assert_eq!(lab.restarts_asked(), 2, "the examination did not end in time");
}

/// With such an examination a service is hung at the second timeout, not before.
#[track_caller]
fn is_hung_at_the_second(seen: Examination) {
    let mut lab = grown_up();
    lab.answer(timeout());
    lab.see(Observation::Examined(API, Some(seen)));
    assert_eq!(lab.incidents(), []);
    lab.answer(timeout());
    assert_eq!(lab.incidents()[0].1, Verdict::Hung);
}

#[test]
fn an_early_sample_leaves_the_count_at_two_timeouts() {
    is_hung_at_the_second(Examination { ahead: true, ..stuck(3) });
}

#[test]
fn a_process_stopped_in_an_early_sample_is_examined_again() {
    let mut lab = grown_up();
    lab.answer(timeout());
    lab.see(Observation::Examined(API, Some(Examination { ahead: true, ..stopped() })));
    assert_eq!(lab.incidents(), [], "a debugger stops it for as long");
    lab.requested.clear();
    lab.wait(Duration::from_millis(400));
    assert!(matches!(lab.requested[..], [Effect::Examine { service: API, ahead: None, .. }]));
    lab.see(Observation::Examined(API, Some(stopped())));
    assert_eq!(lab.incidents()[0].1, Verdict::Hung);
}

#[test]
fn a_stuck_process_shortens_the_wait() {
    is_hung_at_the_second(stuck(0));
}

#[test]
fn a_process_that_stays_stopped_is_hung_with_the_sender_named() {
    let mut lab = grown_up();
    lab.see(stop_signal(&lab));
    assert!(lab.requested.iter().any(|effect| matches!(effect, Effect::Examine { .. })));
    lab.see(Observation::Examined(API, Some(stopped())));
    assert_eq!(lab.incidents()[0].1, Verdict::Hung);
    let incident = lab.engine.view().next().unwrap().incident.unwrap();
    assert!(incident.summary.contains("SIGSTOP from bash (pid 4000"), "{}", incident.summary);
    assert_eq!(incident.evidence, [EventId(902)]);
}

#[test]
fn a_process_that_continues_at_once_is_not_hung() {
    let mut lab = grown_up();
    lab.see(stop_signal(&lab));
    lab.see(Observation::Examined(API, Some(idle(0))));
    assert_eq!(lab.incidents(), []);
}

#[test]
fn a_process_that_a_cpu_limiter_stops_in_turns_is_not_hung() {
    let mut lab = grown_up();
    for _ in 0..20 {
        lab.see(stop_signal(&lab));
        lab.see(Observation::Examined(API, Some(Examination { stopped: true, ..at_work() })));
        lab.wait(Duration::from_millis(100));
    }
    assert_eq!(lab.incidents(), []);
    let examinations = lab.requested.iter().filter(|effect| matches!(effect, Effect::Examine { .. })).count();
    assert!(examinations <= 7, "{examinations} examinations in 2 s");
    lab.wait(Duration::from_secs(1));
    lab.see(Observation::Examined(API, Some(stopped())));
    assert_eq!(lab.incidents()[0].1, Verdict::Hung, "now it stays stopped");
}

#[test]
fn a_traced_process_is_held_and_restarted_if_it_still_times_out_afterwards() {
    let traced = Examination { traced: true, ..idle(3) };
    let mut lab = grown_up();
    for _ in 0..5 {
        lab.answer(timeout());
        lab.see(Observation::Examined(API, Some(traced.clone())));
    }
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Paused, Severity::Warning)]);
    assert_eq!(lab.restarts().len(), 1, "one hold is published");
    for _ in 0..2 {
        lab.answer(timeout());
        lab.see(Observation::Examined(API, Some(idle(0))));
    }
    lab.see(snapshot());
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn a_stopped_process_without_restarts_is_healthy_once_it_continues() {
    let mut lab = Lab::new(exec_identity(), vec![], RestartPolicy::default());
    lab.wait(LATER);
    lab.see(stop_signal(&lab));
    lab.see(Observation::Examined(API, Some(stopped())));
    lab.wait(Duration::from_secs(4));
    assert_eq!(lab.state(), ServiceState::Unhealthy);
    lab.wait(Duration::from_secs(2));
    lab.see(Observation::Examined(API, Some(idle(0))));
    lab.wait(Duration::from_secs(2));
    assert_eq!(lab.state(), ServiceState::Healthy);
}

#[test]
fn a_missing_snapshot_does_not_delay_the_restart_for_long() {
    let mut lab = grown_up();
    time_out(&mut lab, 3);
    lab.wait(Duration::from_secs(5));
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn a_host_under_pressure_holds_restarts_until_it_is_over() {
    let mut lab = grown_up();
    let pressed = |lab: &Lab| Pressure { at: lab.now, cpu: Some(0.95), ..Pressure::default() };
    lab.see(Observation::Pressure(pressed(&lab)));
    let starved = Examination { run_delay: Duration::from_millis(180), ..at_work() };
    for _ in 0..5 {
        lab.answer(timeout());
        lab.see(Observation::Examined(API, Some(starved.clone())));
    }
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Overloaded, Severity::Warning)]);
    assert_eq!(lab.restarts_asked(), 0);
    assert_eq!(lab.restarts().len(), 1, "one hold is published");
    assert!(matches!(lab.restarts().last().unwrap().action, Action::Hold(_)));
    lab.killed(100);
    assert_eq!(lab.restarts_asked(), 1, "a death is a death");
}

#[test]
fn a_daemon_that_is_late_itself_restarts_nothing_for_timeouts() {
    let mut lab = grown_up();
    for _ in 0..5 {
        let pressure = Pressure { at: lab.now, late: Duration::from_secs(3), ..Pressure::default() };
        lab.see(Observation::Pressure(pressure));
        time_out(&mut lab, 1);
    }
    assert_eq!(lab.incidents()[0].1, Verdict::Overloaded);
    assert_eq!(lab.restarts_asked(), 0);
    lab.wait(Duration::from_secs(12));
    time_out(&mut lab, 3);
    assert_eq!(lab.incidents().last().unwrap().1, Verdict::Hung, "it is in time again");
}

#[test]
fn a_service_that_still_times_out_after_the_pressure_is_hung() {
    let mut lab = grown_up();
    let starved = Examination { run_delay: Duration::from_millis(180), ..at_work() };
    for _ in 0..3 {
        lab.answer(timeout());
        lab.see(Observation::Examined(API, Some(starved.clone())));
    }
    assert_eq!(lab.incidents()[0].1, Verdict::Overloaded);
    time_out(&mut lab, 2);
    assert_eq!(lab.incidents().last().unwrap().1, Verdict::Hung);
}

#[test]
fn slow_answers_degrade_and_alert_until_several_quick_ones() {
    let mut lab = grown_up();
    let seconds = Duration::from_secs;
    for _ in 0..3 {
        lab.answer_after(API, seconds(3), ProbeOutcome::Ok);
        assert_eq!(lab.state(), ServiceState::Degraded);
    }
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Slow, Severity::Warning)]);
    assert_eq!(lab.alerts(), [(Verdict::Slow, Severity::Warning, false)]);
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.state(), ServiceState::Degraded, "one quick answer is not enough");
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.state(), ServiceState::Healthy);
    assert_eq!(lab.restarts(), Vec::<&Restart>::new());
    let Some(Fact::Incident(Phase::Resolve, incident)) =
        lab.published.iter().rev().find(|fact| matches!(fact, Fact::Incident(..)))
    else {
        panic!("the incident is still open")
    };
    assert_eq!(
        incident.timing.healthy,
        Some(lab.now.since(incident.since)),
        "right answers were slow before"
    );
}

#[test]
fn slowness_beyond_the_pressure_is_the_services_own() {
    let mut lab = grown_up();
    lab.see(Observation::Pressure(Pressure { at: lab.now, cpu: Some(0.95), ..Pressure::default() }));
    for _ in 0..3 {
        lab.answer_after(API, Duration::from_millis(2100), ProbeOutcome::Ok);
        lab.see(Observation::Pressure(Pressure { at: lab.now, cpu: Some(0.95), ..Pressure::default() }));
    }
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Overloaded, Severity::Warning)]);
    lab.wait(Duration::from_secs(6));
    lab.answer_after(API, Duration::from_millis(2100), ProbeOutcome::Ok);
    assert_eq!(lab.incidents().last().unwrap().1, Verdict::Slow);
}

#[test]
fn failed_connections_to_another_host_are_a_network_fault() {
    let mut lab = grown_up();
    let lost = |lab: &Lab| {
        let remote = ([192, 0, 2, 7], 443).into();
        let lost = Retransmits { at: lab.now, source: Source::Ebpf, remote, peer: Peer::Remote, count: 2 };
        Observation::Retransmits(lost, API, EventId(903))
    };
    lab.see(lost(&lab));
    lab.see(lost(&lab));
    for _ in 0..3 {
        lab.answer(ProbeOutcome::Failed(ProbeFailure::Status, "503".into()));
    }
    assert_eq!(lab.incidents()[0].1, Verdict::Network);
    assert_eq!(lab.alerts(), [(Verdict::Network, Severity::Critical, false)]);
    assert_eq!(lab.restarts_asked(), 0);

    let mut lab = grown_up();
    for _ in 0..10 {
        lab.see(lost(&lab));
        lab.wait(Duration::from_secs(30));
        lab.answer(ProbeOutcome::Ok);
    }
    time_out(&mut lab, 3);
    assert_eq!(lab.incidents()[0].1, Verdict::Hung, "it did not need that host for long");
}

const SECOND: Duration = Duration::from_secs(1);

/// A probe that began at `begun` after `start` and timed out after a second.
pub(super) fn unanswered(lab: &mut Lab, service: ServiceId, start: Timestamp, begun: Duration) {
    lab.now = start.plus(begun + SECOND);
    lab.see(Observation::Probe(ProbeReport {
        service,
        index: 0,
        at: lab.now,
        kind: ProbeKind::Http,
        target: "http://127.0.0.1:8080/".into(),
        duration: SECOND,
        outcome: timeout(),
        hurried: None,
        remark: None,
        server: None,
    }));
}

#[test]
fn concurrent_attempts_find_a_stuck_process_after_one_and_a_quarter_timeouts() {
    let mut lab = grown_up();
    let start = lab.now;
    for begun in [0, 250] {
        unanswered(&mut lab, API, start, Duration::from_millis(begun));
        lab.see(Observation::Examined(API, Some(stuck(0))));
    }
    assert_eq!(lab.incidents()[0].1, Verdict::Hung);
    assert_eq!(lab.now.since(start), Duration::from_millis(1250));

    let mut lab = grown_up();
    let start = lab.now;
    for begun in [0, 250] {
        unanswered(&mut lab, API, start, Duration::from_millis(begun));
    }
    assert_eq!(lab.incidents(), [], "the examination is under way");
    lab.see(Observation::Examined(API, Some(stuck(0))));
    assert_eq!(lab.incidents()[0].1, Verdict::Hung);
}

#[test]
fn concurrent_attempts_count_as_one_failure_of_a_process_that_may_go_on() {
    let mut lab = grown_up();
    for row in 0..3 {
        assert_eq!(lab.incidents(), [], "row {row}");
        let start = lab.now;
        for begun in [0, 250, 500] {
            unanswered(&mut lab, API, start, Duration::from_millis(begun));
            lab.see(Observation::Examined(API, Some(at_work())));
        }
    }
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Hung, Severity::Critical)]);
}

#[test]
fn a_pause_longer_than_a_timeout_is_no_hang_if_a_later_attempt_succeeds() {
    let mut lab = grown_up();
    let start = lab.now;
    for _ in 0..5 {
        unanswered(&mut lab, API, start, Duration::ZERO);
        lab.see(Observation::Examined(API, Some(idle(0))));
        lab.now = start.plus(SECOND);
        lab.answer_after(API, Duration::from_millis(190), ProbeOutcome::Ok);
    }
    assert_eq!(lab.incidents(), []);
    assert_eq!(lab.state(), ServiceState::Healthy);
}

#[test]
fn concurrent_attempts_count_as_one_under_pressure() {
    let row = |lab: &mut Lab, start: Timestamp, seen: &Examination| {
        for begun in [0, 250, 500] {
            unanswered(lab, API, start, Duration::from_millis(begun));
            lab.see(Observation::Examined(API, Some(seen.clone())));
        }
    };
    let mut lab = grown_up();
    let mut start = lab.now;
    for _ in 0..3 {
        assert_eq!(lab.incidents(), [], "under pressure three rows are needed");
        lab.see(Observation::Pressure(Pressure { at: lab.now, cpu: Some(0.95), ..Pressure::default() }));
        row(&mut lab, start, &at_work());
        start = lab.now;
    }
    assert_eq!(lab.incidents()[0].1, Verdict::Hung, "its own threads had what they need");

    let mut lab = grown_up();
    let starved = Examination { run_delay: Duration::from_millis(180), ..at_work() };
    for _ in 0..3 {
        let start = lab.now;
        row(&mut lab, start, &starved);
    }
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Overloaded, Severity::Warning)]);
    assert_eq!(lab.restarts_asked(), 0, "starved, not dead");
}

/// Timeouts for which the daemon itself was late, and examinations that find the service asleep.
fn time_out_late(lab: &mut Lab, times: u32) {
    for _ in 0..times {
        lab.hurried = Some(Duration::from_secs(3));
        time_out_asleep(lab, 1);
        lab.hurried = None;
    }
}

fn time_out_asleep(lab: &mut Lab, times: u32) {
    for _ in 0..times {
        lab.answer(timeout());
        let asleep = Examination { cpu: Duration::from_micros(10), switches: 1, ..at_work() };
        lab.see(Observation::Examined(API, Some(asleep)));
    }
}

#[test]
fn timeouts_for_which_the_daemon_itself_was_late_lead_to_no_restart() {
    let mut lab = grown_up();
    time_out_late(&mut lab, 6);
    assert_eq!(lab.incidents()[0].1, Verdict::Overloaded);
    lab.wait(LATER);
    assert_eq!(lab.restarts_asked(), 0);
    // Those that were in time count from the first of them.
    time_out_asleep(&mut lab, 2);
    assert_eq!((lab.incidents().last().unwrap().1, lab.restarts_asked()), (Verdict::Overloaded, 0));
    time_out_asleep(&mut lab, 1);
    lab.see(snapshot());
    assert_eq!((lab.incidents().last().unwrap().1, lab.restarts_asked()), (Verdict::Hung, 1));
}

#[test]
fn a_late_timeout_is_none_of_the_failures_in_a_row() {
    let mut lab = grown_up();
    for _ in 0..2 {
        time_out_late(&mut lab, 1);
        time_out_asleep(&mut lab, 1);
    }
    lab.wait(LATER);
    assert_eq!(lab.restarts_asked(), 0, "two of them were in time");
    time_out_asleep(&mut lab, 1);
    lab.see(snapshot());
    assert_eq!((lab.incidents().last().unwrap().1, lab.restarts_asked()), (Verdict::Hung, 1));
}
