//! Services whose processes are kept from running on purpose.

use super::*;
use crate::fact::{CoreSignal, FrozenCgroup, Tracer};

fn timeout() -> ProbeOutcome {
    ProbeOutcome::Failed(ProbeFailure::Timeout, "no answer".into())
}

fn still() -> Examination {
    Examination { over: Duration::from_millis(200), threads: 4, ..Examination::default() }
}

fn frozen() -> Examination {
    let path = "/system.slice/docker-0123456789ab.scope".to_owned();
    let frozen = FrozenCgroup { path, container: Some("0123456789ab".into()), unit: None };
    Examination { frozen: Some(frozen), ..still() }
}

fn traced() -> Examination {
    Examination { tracer: Some(Tracer { pid: 700, name: "strace".into() }), ..at_work() }
}

fn dumping() -> Examination {
    Examination { dumping_core: Some(100), uninterruptible: 1, ..still() }
}

fn grown_up() -> Lab {
    let mut lab = Lab::exec();
    lab.wait(LATER);
    lab
}

fn time_out_with(lab: &mut Lab, times: u32, found: &Examination) {
    for _ in 0..times {
        lab.answer(timeout());
        lab.see(Observation::Examined(API, Some(found.clone())));
    }
}

fn summary(lab: &Lab) -> String {
    lab.engine.view().next().unwrap().incident.unwrap().summary
}

#[test]
fn a_frozen_service_is_paused_until_it_answers() {
    let mut lab = grown_up();
    time_out_with(&mut lab, 6, &frozen());
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Paused, Severity::Warning)]);
    assert_eq!((lab.restarts_asked(), lab.restarts().len()), (0, 1), "one hold is published");
    assert!(summary(&lab).contains("container 0123456789ab is paused"), "{}", summary(&lab));
    assert_eq!(lab.alerts(), []);
    lab.wait(Duration::from_secs(10));
    assert_eq!(lab.alerts(), [(Verdict::Paused, Severity::Warning, false)]);
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.state(), ServiceState::Healthy);
    assert_eq!(lab.restarts_asked(), 0);
}

#[test]
fn a_service_that_is_thawed_and_still_does_not_answer_is_hung() {
    let mut lab = grown_up();
    time_out_with(&mut lab, 4, &frozen());
    time_out_with(&mut lab, 3, &still());
    lab.see(snapshot());
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn a_tracer_that_slows_a_service_down_is_named() {
    let mut lab = grown_up();
    time_out_with(&mut lab, 4, &traced());
    assert_eq!(lab.incidents()[0].1, Verdict::Paused);
    assert!(summary(&lab).contains("strace (pid 700) traces it"), "{}", summary(&lab));
    assert_eq!(lab.restarts_asked(), 0);
}

#[test]
fn a_service_that_is_kept_needs_its_whole_row_of_failures() {
    for found in [frozen(), traced()] {
        let mut lab = grown_up();
        time_out_with(&mut lab, 1, &found);
        assert_eq!(lab.incidents(), []);
    }
}

#[test]
fn a_core_dump_is_a_crash_whose_restart_waits_for_the_exit() {
    let mut lab = grown_up();
    time_out_with(&mut lab, 5, &dumping());
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Crashed, Severity::Critical)]);
    assert_eq!(lab.restarts_asked(), 0);
    assert!(summary(&lab).contains("writes its core dump"), "{}", summary(&lab));
    // The connections break off with the process.
    lab.answer(ProbeOutcome::Failed(ProbeFailure::Reset, "connection reset".into()));
    lab.refuse();
    assert_eq!((lab.restarts_asked(), lab.incidents().last().unwrap().1), (0, Verdict::Crashed));
    lab.die(100, SEGV, Some(Sender::Kernel));
    assert_eq!(lab.restarts_asked(), 1);
    lab.comes_back(101);
    assert_eq!(lab.incidents().last().unwrap().1, Verdict::Crashed);
    assert_eq!(lab.state(), ServiceState::Healthy);
}

#[test]
fn failures_between_the_end_of_a_core_dump_and_the_exit_rename_nothing() {
    for after in [None, Some(still())] {
        let mut lab = grown_up();
        time_out_with(&mut lab, 1, &dumping());
        lab.see(Observation::Examined(API, after.clone()));
        for _ in 0..5 {
            lab.answer(ProbeOutcome::Failed(ProbeFailure::Reset, "connection reset".into()));
            lab.answer(timeout());
            lab.see(Observation::Examined(API, after.clone()));
            lab.refuse();
        }
        assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Crashed, Severity::Critical)]);
        assert_eq!(lab.restarts_asked(), 0);
        lab.die(100, SEGV, Some(Sender::Kernel));
        assert_eq!(lab.restarts_asked(), 1);
    }
}

#[test]
fn a_core_dump_is_a_crash_without_a_single_failure() {
    let mut lab = grown_up();
    let signal = CoreSignal { at: lab.now, process: process(100), signal: 11 };
    lab.see(Observation::CoreSignal(signal, API));
    assert!(matches!(lab.requested.last(), Some(Effect::Examine { service: API, .. })));
    assert_eq!(lab.incidents(), [], "most dumps are complete before anyone looks");
    lab.see(Observation::Examined(API, Some(dumping())));
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Crashed, Severity::Critical)]);
    assert!(summary(&lab).contains("crashed with SIGSEGV and writes its core dump"), "{}", summary(&lab));
    time_out_with(&mut lab, 5, &dumping());
    assert_eq!((lab.restarts_asked(), lab.incidents().len()), (0, 1));
    lab.die(100, SEGV, Some(Sender::Kernel));
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn a_core_signal_that_ends_nothing_is_no_fault() {
    let mut lab = grown_up();
    let signal = CoreSignal { at: lab.now, process: process(100), signal: 11 };
    lab.see(Observation::CoreSignal(signal, API));
    lab.see(Observation::Examined(API, Some(at_work())));
    lab.wait(Duration::from_secs(60));
    lab.answer(ProbeOutcome::Ok);
    // Nor is one to a process that is not the main one any more.
    lab.see(Observation::CoreSignal(CoreSignal { process: process(99), ..signal }, API));
    assert_eq!((lab.incidents(), lab.restarts_asked()), (vec![], 0));
}

#[test]
fn the_core_dump_of_another_process_needs_the_whole_row_of_failures() {
    let mut lab = grown_up();
    let found = Examination { dumping_core: Some(101), ..dumping() };
    time_out_with(&mut lab, 1, &found);
    assert_eq!(lab.incidents(), []);
    time_out_with(&mut lab, 2, &found);
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Crashed, Severity::Critical)]);
}

fn stop_of(lab: &Lab, signal: u8, sender: Sender) -> Observation {
    let stop = Suspension { at: lab.now, process: process(100), signal, sender: Some(sender) };
    Observation::Suspended(stop, API, EventId(902))
}

fn at_terminal(unit: Option<&str>, terminal: bool) -> Sender {
    Sender::Process { pid: 4000, name: "bash".into(), user_id: 0, unit: unit.map(str::to_owned), terminal }
}

#[test]
fn a_person_who_stops_a_service_has_it_held() {
    let senders = [
        (19, at_terminal(None, true)),
        (19, at_terminal(Some("session-3.scope"), false)),
        (20, Sender::Kernel),
        (22, Sender::Kernel),
        (21, at_terminal(None, false)),
    ];
    for (signal, sender) in senders {
        let mut lab = grown_up();
        lab.see(stop_of(&lab, signal, sender));
        lab.see(Observation::Examined(API, Some(Examination { stopped: true, ..still() })));
        assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Paused, Severity::Warning)]);
        lab.wait(Duration::from_secs(5));
        lab.see(Observation::Examined(API, Some(Examination { stopped: true, ..still() })));
        time_out_with(&mut lab, 3, &Examination { stopped: true, ..still() });
        assert_eq!((lab.restarts_asked(), lab.incidents().len()), (0, 1));
        lab.see(Observation::Examined(API, Some(still())));
        lab.answer(ProbeOutcome::Ok);
        assert_eq!(lab.state(), ServiceState::Healthy);
    }
}

#[test]
fn a_program_that_stops_a_service_makes_it_hang() {
    for unit in [None, Some("cron.service"), Some("sessions.service")] {
        let mut lab = grown_up();
        lab.see(stop_of(&lab, 19, at_terminal(unit, false)));
        lab.see(Observation::Examined(API, Some(Examination { stopped: true, ..still() })));
        assert_eq!(lab.incidents()[0].1, Verdict::Hung);
    }
}
