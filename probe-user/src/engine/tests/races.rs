//! Rare orders of events: an operator acts meanwhile, a report comes late, a process ends before the daemon knows
//! it.

use super::{
    probes::listener,
    units::{later, running_unit, waiting_unit},
    *,
};

/// Longer than every grace. A unit whose process `pid` ended at `died` and that left the active state `left` µs
/// after that.
fn down(active: &str, pid: u32, died: Timestamp, left: i64) -> UnitState {
    UnitState {
        active: active.into(),
        sub: if active == "failed" { "failed" } else { "dead" }.into(),
        result: if active == "failed" { "exit-code" } else { "success" }.into(),
        main: None,
        main_pid: 0,
        main_exited: later(died, 300),
        active_exit: later(died, left),
        changed: later(died, left.max(300)),
        ..running_unit(pid)
    }
}

/// The unit was stopped while it waited for its own restart: systemd keeps the result of the death.
fn stopped_while_waiting(pid: u32, died: Timestamp) -> UnitState {
    UnitState { result: "signal".into(), changed: later(died, 9000), ..down("inactive", pid, died, 500) }
}

fn with_job(kind: &str, state: UnitState) -> UnitState {
    UnitState { job: Some(UnitJob { id: 1, kind: kind.into() }), ..state }
}

/// A matched service, restarted by a command.
pub(super) fn matched(probes: Vec<Probe>) -> Lab {
    let matcher = config::Matcher { port: Some(8080), ..config::Matcher::default() };
    let command = Some(vec!["/bin/bounce".to_owned()]);
    Lab::new(Identity::Match(matcher), probes, RestartPolicy { command, ..policy() })
}

/// A unit without probes.
fn plain_unit() -> Lab {
    let mut lab = Lab::new(Identity::Unit("api.service".into()), vec![], policy());
    lab.see(Observation::Unit(API, running_unit(100)));
    lab
}

fn sigterm_of_systemd(lab: &mut Lab, pid: u32) {
    let systemd =
        Sender::Process { pid: SYSTEMD, name: "systemd".into(), user_id: 0, unit: None, terminal: false };
    lab.die(pid, ExitStatus::Signal { number: 15, core_dumped: false }, Some(systemd));
}

/// The main process 100 is killed, and the unit restarted as 101.
fn killed_and_restarted(lab: &mut Lab) {
    lab.wait(LATER);
    lab.killed(100);
    lab.see(Observation::Unit(API, waiting_unit(100, lab.now, Duration::from_secs(10))));
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Unit(API, running_unit(101)));
}

#[test]
fn an_unexpected_listener_may_close() {
    let mut lab = Lab::new(exec_identity(), vec![], policy());
    lab.see(listener(&lab, true));
    lab.wait(LATER);
    lab.see(listener(&lab, false));
    lab.wait(LATER);
    assert_eq!(lab.incidents(), []);
}

#[test]
fn an_alert_is_resolved_when_the_operator_stops_the_unit() {
    let mut lab = Lab::unit();
    killed_and_restarted(&mut lab);
    lab.wait(Duration::from_secs(20));
    assert_eq!(lab.alerts().len(), 1);
    sigterm_of_systemd(&mut lab, 101);
    lab.see(Observation::Unit(API, down("inactive", 101, lab.now, -500)));
    lab.see(Observation::Unit(API, running_unit(102)));
    lab.answer(ProbeOutcome::Ok);
    assert!(matches!(lab.alerts()[..], [(_, _, false), (_, _, true)]), "{:?}", lab.alerts());
}

#[test]
fn a_crash_after_a_requested_restart_alerts() {
    let mut lab = Lab::unit();
    lab.wait(LATER);
    sigterm_of_systemd(&mut lab, 100);
    lab.see(Observation::Unit(API, with_job("restart", down("deactivating", 100, lab.now, -500))));
    lab.see(Observation::Unit(API, running_unit(101)));
    lab.killed(101);
    lab.see(Observation::Unit(API, waiting_unit(101, lab.now, Duration::from_secs(10))));
    lab.wait(LATER);
    assert_eq!(lab.alerts(), [(Verdict::Killed, Severity::Critical, false)]);
}

#[test]
fn a_back_off_does_not_undo_an_operators_stop() {
    let mut lab = Lab::unit();
    killed_and_restarted(&mut lab);
    lab.killed(101);
    let died = lab.now;
    lab.see(Observation::Unit(API, waiting_unit(101, died, Duration::from_secs(10))));
    lab.see(Observation::Unit(API, stopped_while_waiting(101, died)));
    lab.wait(LATER);
    assert_eq!(lab.restarts_asked(), 1);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
    assert_eq!(lab.state(), ServiceState::Stopped);
}

#[test]
fn after_a_back_off_the_unit_is_read_again_before_the_restart() {
    let mut lab = Lab::unit();
    killed_and_restarted(&mut lab);
    lab.killed(101);
    let waiting = waiting_unit(101, lab.now, Duration::from_secs(10));
    lab.see(Observation::Unit(API, waiting.clone()));
    lab.wait(Duration::from_secs(2));
    assert_eq!(lab.restarts_asked(), 1);
    lab.see(Observation::Unit(API, waiting));
    assert_eq!(lab.restarts_asked(), 2);
}

#[test]
fn failed_probes_restart_no_unit_that_is_stopping_or_starting() {
    let stopping = with_job("stop", UnitState { active: "deactivating".into(), ..running_unit(100) });
    let starting = with_job("start", UnitState { active: "activating".into(), ..running_unit(100) });
    for state in [stopping, starting] {
        let mut lab = Lab::unit();
        lab.wait(LATER);
        time_out(&mut lab, 3);
        lab.see(Observation::Unit(API, state));
        assert_eq!(lab.restarts_asked(), 0);
    }
    let mut lab = Lab::unit();
    lab.wait(LATER);
    time_out(&mut lab, 3);
    lab.see(Observation::Unit(API, running_unit(100)));
    lab.see(snapshot());
    lab.see(Observation::Unit(API, running_unit(100)));
    assert_eq!(lab.restarts_asked(), 1, "a unit that neither stops nor starts is restarted");
}

#[test]
fn a_restart_in_progress_is_not_requested_again() {
    let mut lab = Lab::exec();
    lab.wait(LATER);
    time_out(&mut lab, 3);
    lab.wait(Duration::from_secs(90));
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn a_restart_that_an_operator_cancelled_is_not_repeated() {
    let mut lab = Lab::unit();
    lab.wait(LATER);
    lab.killed(100);
    let died = lab.now;
    lab.see(Observation::Unit(API, waiting_unit(100, died, Duration::from_secs(10))));
    lab.see(Observation::RestartOutcome(API, Err("the job was cancelled".into())));
    lab.see(Observation::Unit(API, stopped_while_waiting(100, died)));
    lab.wait(LATER);
    assert_eq!((lab.restarts_asked(), lab.state()), (1, ServiceState::Stopped));
}

#[test]
fn a_death_that_only_systemd_reports_causes_a_restart() {
    let mut lab = plain_unit();
    lab.wait(LATER);
    let failed = down("failed", 100, lab.now, 500);
    lab.see(Observation::Unit(API, failed.clone()));
    assert_eq!(lab.restarts_asked(), 0, "the kernel's report may still come");
    lab.wait(Duration::from_millis(150));
    lab.see(Observation::Unit(API, failed));
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn a_late_unit_state_restarts_nothing() {
    for well in [false, true] {
        let mut lab = Lab::unit();
        killed_and_restarted(&mut lab);
        if well {
            lab.answer(ProbeOutcome::Ok);
        }
        lab.see(Observation::Unit(API, down("failed", 100, lab.now, 500)));
        lab.wait(Duration::from_millis(150));
        lab.see(Observation::Unit(API, running_unit(101)));
        lab.answer(ProbeOutcome::Ok);
        lab.wait(LATER);
        assert_eq!(lab.restarts_asked(), 1);
        assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
        assert_eq!(lab.state(), ServiceState::Healthy);
    }
}

#[test]
fn a_new_main_process_that_is_already_dead_is_not_healthy() {
    let mut lab = plain_unit();
    lab.wait(LATER);
    lab.killed(100);
    lab.see(Observation::Unit(API, down("failed", 100, lab.now, 500)));
    lab.see(Observation::RestartOutcome(API, Ok(())));
    // The kernel reported its exit before systemd reported the process.
    lab.die(101, ExitStatus::Code(1), None);
    lab.see(Observation::Unit(API, running_unit(101)));
    let failed = down("failed", 101, lab.now, 500);
    for _ in 0..20 {
        lab.see(Observation::Unit(API, failed.clone()));
        lab.wait(Duration::from_millis(200));
    }
    assert_eq!(lab.restarts_asked(), 2);
    assert_ne!(lab.state(), ServiceState::Healthy);
}

#[test]
fn a_start_that_fails_at_once_does_not_wait_out_the_grace() {
    let mut lab = plain_unit();
    lab.wait(LATER);
    lab.killed(100);
    lab.see(Observation::Unit(API, down("failed", 100, lab.now, 500)));
    lab.see(Observation::RestartOutcome(API, Ok(())));
    let failed = down("failed", 101, lab.now, 500);
    lab.see(Observation::Unit(API, failed.clone()));
    lab.wait(Duration::from_millis(1100));
    lab.see(Observation::Unit(API, failed));
    assert_eq!(lab.restarts_asked(), 2);
}

#[test]
fn the_unit_is_read_until_systemd_answers() {
    let mut lab = Lab::unit();
    lab.wait(LATER);
    lab.killed(100);
    let died = lab.now;
    lab.see(Observation::UnitUnknown(API, "no answer".into()));
    lab.requested.clear();
    lab.wait(Duration::from_secs(2));
    assert!(lab.requested.contains(&Effect::InspectUnit(API)));
    lab.see(Observation::Unit(API, down("failed", 100, died, 500)));
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn no_timer_stays_due() {
    let matcher = config::Matcher { port: Some(8080), ..config::Matcher::default() };
    let mut lab = Lab::new(Identity::Match(matcher), vec![], RestartPolicy::default());
    lab.see(listener(&lab, true));
    lab.see(listener(&lab, false));
    lab.wait(Duration::from_secs(1));
    lab.see(Observation::Running(API, process(101)));
    lab.wait(LATER);
    assert!(lab.engine.deadline().is_none_or(|due| due > lab.now), "{:?}", lab.engine.deadline());
}

#[test]
fn an_orphan_that_answers_does_not_cancel_a_restart() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Running(API, process(101)));
    lab.killed(101);
    lab.answer(ProbeOutcome::Ok);
    lab.wait(LATER);
    assert_eq!(lab.restarts_asked(), 2);
}

#[test]
fn a_spent_budget_resets_no_unit_that_systemd_still_restarts() {
    let mut lab = Lab::unit();
    let mut resets = 0;
    for pid in 100..160 {
        lab.killed(pid);
        lab.see(Observation::Unit(API, waiting_unit(pid, lab.now, Duration::from_millis(100))));
        lab.wait(Duration::from_millis(160));
        lab.see(Observation::Unit(API, running_unit(pid + 1)));
        resets = lab.requested.iter().filter(|effect| **effect == Effect::ResetFailed(API)).count();
    }
    assert_eq!(resets, 0);
    assert_eq!(lab.incidents().last().unwrap().1, Verdict::CrashLoop, "systemd's restarts spend it too");
}

#[test]
fn a_successor_after_a_successful_exit_is_no_incident() {
    let mut lab = matched(vec![http_probe()]);
    lab.wait(LATER);
    lab.die(100, ExitStatus::Code(0), None);
    lab.see(Observation::Running(API, process(101)));
    lab.wait(LATER);
    assert_eq!(lab.incidents(), []);
    lab.die(101, ExitStatus::Code(0), None);
    lab.wait(Duration::from_millis(300));
    assert_eq!(lab.incidents()[0].1, Verdict::Exited, "without one it is");
}

#[test]
fn a_command_that_heals_in_place_is_enough() {
    let mut lab = matched(vec![http_probe()]);
    lab.wait(LATER);
    time_out(&mut lab, 3);
    lab.see(snapshot());
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.answer(ProbeOutcome::Ok);
    lab.wait(LATER);
    assert_eq!((lab.restarts_asked(), lab.state()), (1, ServiceState::Healthy));
}

#[test]
fn a_command_for_a_service_without_probes_runs_again_until_it_helps() {
    let mut lab = matched(vec![]);
    lab.wait(LATER);
    let stop = Suspension { at: lab.now, process: process(100), signal: 19, sender: Some(bash()) };
    let stopped = Examination { over: Duration::from_millis(200), stopped: true, ..Examination::default() };
    lab.see(Observation::Suspended(stop, API, EventId(902)));
    for restarts in 1..=2 {
        lab.see(Observation::Examined(API, Some(stopped.clone())));
        lab.see(snapshot());
        lab.wait(Duration::from_secs(1));
        assert_eq!(lab.restarts_asked(), restarts);
        lab.see(Observation::RestartOutcome(API, Ok(())));
    }
    lab.see(Observation::Examined(API, Some(at_work())));
    lab.wait(LATER);
    assert!(lab.incidents().iter().all(|(_, verdict, _)| *verdict == Verdict::Hung));
    assert_eq!((lab.restarts_asked(), lab.state()), (2, ServiceState::Healthy));
}

#[test]
fn a_failure_that_no_restart_mends_is_judged_again_when_it_changes() {
    let mut lab = Lab::exec();
    lab.wait(LATER);
    for _ in 0..3 {
        lab.answer(ProbeOutcome::Failed(ProbeFailure::TooManyConnections, "full".into()));
    }
    assert_eq!(lab.restarts_asked(), 0);
    time_out(&mut lab, 3);
    lab.see(snapshot());
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn a_crash_that_systemd_heals_causes_no_alert_without_restarts() {
    let unit = Identity::Unit("api.service".into());
    let mut lab = Lab::new(unit, vec![http_probe()], RestartPolicy::default());
    lab.see(Observation::Unit(API, running_unit(100)));
    lab.wait(LATER);
    lab.killed(100);
    lab.see(Observation::Unit(API, waiting_unit(100, lab.now, Duration::from_millis(100))));
    lab.wait(Duration::from_millis(170));
    lab.see(Observation::Unit(API, running_unit(101)));
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(
        lab.alerts(),
        [(Verdict::Killed, Severity::Info, false), (Verdict::Killed, Severity::Info, true)]
    );
}
