//! Units and their states in systemd.

use super::{
    unit_states::{down, plain},
    *,
};

impl Lab {
    pub(super) fn unit() -> Self {
        let mut lab = Self::new(Identity::Unit("api.service".into()), vec![http_probe()], policy());
        lab.see(Observation::Unit(API, running_unit(100)));
        lab
    }
}

pub(super) fn running_unit(pid: u32) -> UnitState {
    UnitState {
        at: at(1000),
        load: "loaded".into(),
        active: "active".into(),
        sub: "running".into(),
        result: "success".into(),
        invocation_id: format!("run of {pid}"),
        restart_delay: Duration::from_secs(10),
        restarts_itself: true,
        start_limit: (5, Duration::from_secs(10)),
        main: Some(process(pid)),
        main_pid: pid,
        main_started: Some(process(pid).start),
        manager_pid: SYSTEMD,
        ..UnitState::default()
    }
}

pub(super) fn later(moment: Timestamp, micros: i64) -> Option<Timestamp> {
    Some(Timestamp::from_nanos(moment.as_nanos().saturating_add_signed(micros * 1000)))
}

/// The unit whose main process `pid` ended at `died`, as systemd shows it a moment later.
pub(super) fn waiting_unit(pid: u32, died: Timestamp, restart_delay: Duration) -> UnitState {
    UnitState {
        at: later(died, 1000).unwrap(),
        active: "activating".into(),
        sub: "auto-restart".into(),
        result: "signal".into(),
        restart_delay,
        main: None,
        main_pid: 0,
        main_exited: later(died, 400),
        active_exit: later(died, 500),
        changed: later(died, 500),
        ..running_unit(pid)
    }
}

#[test]
fn a_unit_that_waits_out_its_restart_delay_is_restarted_at_once() {
    let mut lab = Lab::unit();
    lab.killed(100);
    assert_eq!(lab.restarts_asked(), 0, "the unit's state is read first");
    assert!(lab.requested.contains(&Effect::InspectUnit(API)));
    let died = lab.now;
    lab.see(Observation::Unit(API, running_unit(100)));
    assert_eq!(lab.restarts_asked(), 0, "systemd has not noticed the exit yet");
    lab.wait(Duration::from_millis(5));
    lab.see(Observation::Unit(API, waiting_unit(100, died, Duration::from_secs(10))));
    assert_eq!(lab.restarts_asked(), 1);
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Killed, Severity::Critical)]);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Unit(API, running_unit(101)));
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
}

#[test]
fn a_unit_that_systemd_restarts_at_once_is_left_to_systemd() {
    let mut lab = Lab::unit();
    lab.killed(100);
    lab.see(Observation::Unit(API, waiting_unit(100, lab.now, Duration::ZERO)));
    assert!(
        matches!(&lab.restarts()[0].action, Action::Hold(why) if why.contains("systemd restarts it itself"))
    );
    lab.wait(Duration::from_millis(30));
    lab.see(Observation::Unit(API, running_unit(101)));
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.restarts_asked(), 0);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
}

#[test]
fn a_unit_that_systemd_fails_to_restart_is_restarted() {
    let mut lab = Lab::unit();
    lab.killed(100);
    let died = lab.now;
    lab.see(Observation::Unit(API, waiting_unit(100, died, Duration::ZERO)));
    lab.wait(Duration::from_millis(600));
    let failed = UnitState {
        active: "failed".into(),
        sub: "failed".into(),
        result: "start-limit-hit".into(),
        ..waiting_unit(100, died, Duration::ZERO)
    };
    lab.see(Observation::Unit(API, failed));
    let restart = lab.requested.iter().find(|effect| matches!(effect, Effect::Restart { .. }));
    let expected = Effect::Restart { service: API, method: RestartMethod::Systemd, reset_failed: true };
    assert_eq!(restart, Some(&expected));
}

#[test]
fn a_failed_start_before_a_run_that_finished_well_restarts_nothing() {
    let mut lab = Lab::unit();
    let without_process = |active: &str, sub: &str, result: &str| UnitState {
        active: active.into(),
        sub: sub.into(),
        result: result.into(),
        main: None,
        main_pid: 0,
        ..running_unit(100)
    };
    lab.see(Observation::Unit(API, without_process("inactive", "dead", "timeout")));
    lab.see(Observation::Unit(API, without_process("active", "exited", "success")));
    assert_eq!((lab.restarts_asked(), lab.incidents()), (0, vec![]));
}

#[test]
fn a_requested_stop_is_stopped_and_nothing_is_done() {
    let by_job = |died| UnitState {
        job: Some(UnitJob { id: 7, kind: "stop".into() }),
        ..waiting_unit(100, died, Duration::from_secs(10))
    };
    let by_timestamp = |died: Timestamp| UnitState {
        active: "inactive".into(),
        sub: "dead".into(),
        result: "success".into(),
        active_exit: later(died, -1000),
        ..waiting_unit(100, died, Duration::from_secs(10))
    };
    for state in [by_job as fn(Timestamp) -> UnitState, by_timestamp] {
        let mut lab = Lab::unit();
        lab.now = at(2000);
        lab.die(100, ExitStatus::Code(0), None);
        lab.see(Observation::Unit(API, state(lab.now)));
        assert_eq!(lab.incidents(), [], "a requested stop is a state and an event");
        assert_eq!((lab.restarts_asked(), lab.alerts().len()), (0, 0));
        assert_eq!(lab.state(), ServiceState::Stopped);
        lab.wait(Duration::from_secs(3600));
        assert_eq!((lab.restarts_asked(), lab.alerts().len()), (0, 0));
        lab.see(Observation::Unit(API, running_unit(101)));
        lab.answer(ProbeOutcome::Ok);
        assert_eq!((lab.incidents(), lab.alerts()), (vec![], vec![]));
        assert_eq!(lab.states(), [ServiceState::Stopped, ServiceState::Starting, ServiceState::Healthy]);
    }
}

#[test]
fn a_restart_job_with_a_new_process_is_stopped_then_healthy() {
    let mut lab = Lab::unit();
    lab.now = at(2000);
    lab.die(100, ExitStatus::Code(0), None);
    let restarted = UnitState {
        active_exit: later(lab.now, -1000),
        main_started: later(lab.now, 3000),
        ..running_unit(101)
    };
    lab.see(Observation::Unit(API, restarted));
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.states(), [ServiceState::Stopped, ServiceState::Starting, ServiceState::Healthy]);
    assert_eq!((lab.incidents(), lab.restarts_asked()), (vec![], 0));
}

#[test]
fn a_unit_with_an_unknown_state_is_not_restarted() {
    let mut lab = Lab::unit();
    lab.killed(100);
    lab.see(Observation::UnitUnknown(API, "the bus is gone".into()));
    assert_eq!(lab.incidents()[0].1, Verdict::Killed);
    assert_eq!(lab.restarts_asked(), 0);
}

#[test]
fn a_unit_that_is_up_again_without_a_main_process_has_not_failed() {
    let mut lab = plain();
    let failed = UnitState { main_exited: None, ..down("failed", "exit-code", 100, lab.now, 500) };
    lab.see(Observation::Unit(API, failed.clone()));
    assert_eq!(lab.incidents(), [], "the kernel may still report the exit");
    lab.wait(Duration::from_millis(100));
    let up = UnitState { main: None, main_pid: 0, ..running_unit(101) };
    lab.see(Observation::Unit(API, up));
    lab.wait(LATER);
    assert_eq!((lab.incidents(), lab.restarts_asked()), (vec![], 0));

    // One that is still down has.
    let mut lab = plain();
    lab.see(Observation::Unit(API, failed.clone()));
    lab.wait(Duration::from_millis(100));
    lab.see(Observation::Unit(API, failed));
    assert_eq!((lab.incidents().len(), lab.restarts_asked()), (1, 1));
}

#[test]
fn restarts_stay_below_the_units_own_start_limit() {
    let mut lab = Lab::unit();
    for pid in 100..105 {
        lab.killed(pid);
        lab.see(Observation::Unit(API, waiting_unit(pid, lab.now, Duration::from_secs(10))));
        lab.see(Observation::RestartOutcome(API, Ok(())));
        lab.see(Observation::Unit(API, running_unit(pid + 1)));
        lab.answer(ProbeOutcome::Ok);
    }
    let mut resets = Vec::new();
    for effect in &lab.requested {
        if let Effect::Restart { reset_failed, .. } = effect {
            resets.push(*reset_failed);
        }
    }
    assert_eq!(resets, [false, false, false, true, true], "five starts in ten seconds are the unit's limit");
    lab.killed(105);
    lab.see(Observation::Unit(API, waiting_unit(105, lab.now, Duration::from_secs(10))));
    assert_eq!(lab.incidents().last().unwrap().1, Verdict::CrashLoop);
    assert!(!lab.requested.contains(&Effect::ResetFailed(API)), "systemd itself still restarts it");
}
