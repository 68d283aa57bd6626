//! The states were recorded from systemd 252. Times are milliseconds since the death.

use super::{UnitJudgement::*, *};
use crate::fact::{UnitJob, Verdict};

const DIED: ProcessKey = ProcessKey { pid: 41, start: at(-1000.0) };

const fn at(millis: f64) -> Timestamp {
    Timestamp::from_nanos((10_000_000_000.0 + millis * 1e6) as u64)
}

/// A unit that runs, as read 1 ms after the death.
fn unit(active: &str, sub: &str, result: &str) -> UnitState {
    UnitState {
        at: at(1.0),
        load: "loaded".into(),
        active: active.into(),
        sub: sub.into(),
        result: result.into(),
        invocation_id: "aa".into(),
        main_started: Some(at(-1000.0)),
        ..UnitState::default()
    }
}

/// A unit that left the active state and noticed the exit at these times.
fn ended(active: &str, sub: &str, result: &str, (left, exited): (f64, f64)) -> UnitState {
    UnitState { active_exit: Some(at(left)), main_exited: Some(at(exited)), ..unit(active, sub, result) }
}

fn with_job(kind: &str, state: UnitState) -> UnitState {
    UnitState { job: Some(UnitJob { id: 7, kind: kind.into() }), ..state }
}

fn judged(state: &UnitState) -> UnitJudgement {
    judge(state, &DIED, at(0.0), Some("aa"))
}

const CRASH: (f64, f64) = (0.72, 0.60);
const STOP: (f64, f64) = (-0.10, 0.08);

#[test]
fn a_state_from_before_the_death_is_stale() {
    let mut state = unit("active", "running", "success");
    state.main_pid = 7;
    assert_eq!(judged(&state), Stale);
    // The process is still there as a zombie.
    state.main = Some(DIED);
    assert_eq!(judged(&state), Stale);
}

#[test]
fn a_crash_is_restarted() {
    let restart = Restart { gave_up: false, waits: None };
    assert_eq!(judged(&ended("failed", "failed", "signal", CRASH)), restart);
    assert_eq!(judged(&ended("inactive", "dead", "success", CRASH)), restart, "exit 0 without Restart=");
    assert_eq!(judged(&ended("deactivating", "stop-post", "signal", CRASH)), restart);
}

#[test]
fn a_unit_that_ended_as_it_should_rests() {
    let oneshot = |state| UnitState { kind: "oneshot".into(), ..state };
    let triggered =
        |by: &str, state| UnitState { kind: "simple".into(), triggered_by: vec![by.into()], ..state };
    let done = ended("inactive", "dead", "success", CRASH);
    let failed = ended("failed", "failed", "exit-code", CRASH);
    for state in [
        ended("active", "exited", "success", CRASH),
        oneshot(done.clone()),
        oneshot(ended("active", "exited", "success", CRASH)),
        triggered("api.socket", done.clone()),
        triggered("api.timer", done.clone()),
        triggered("api.path", done.clone()),
        ended("inactive", "dead", "exec-condition", CRASH),
    ] {
        assert!(matches!(judged(&state), Rests(_)), "{state:?} is {:?}", judged(&state));
    }
    for state in [oneshot(failed.clone()), triggered("api.timer", failed.clone())] {
        assert_eq!(
            meaning::of_end(&state, meaning::Known::default()).meaning,
            Meaning::Fault(None, meaning::Mend::Hold)
        );
    }
    let restart = Meaning::Fault(None, meaning::Mend::Restart);
    for state in [failed.clone(), done, triggered("api.socket", failed)] {
        assert_eq!(meaning::of_end(&state, meaning::Known::default()).meaning, restart, "{state:?}");
    }
    let next_command = UnitState {
        main: Some(ProcessKey { pid: 42, start: at(1.0) }),
        main_started: Some(at(1.0)),
        ..oneshot(unit("activating", "start", "success"))
    };
    assert_eq!(judged(&next_command), StillRuns);
    assert_eq!(judged(&oneshot(ended("activating", "start-post", "success", (-2000.0, 0.2)))), StillRuns);
}

#[test]
fn a_start_that_failed_is_no_stop() {
    let begun = |state| UnitState { started: Some(at(-999.0)), ..state };
    // As systemd 252 shows a unit of Type=notify that was not ready in time, and one whose ExecStartPre= failed.
    let late = begun(UnitState { main_exited: Some(at(0.1)), ..unit("failed", "failed", "timeout") });
    assert_eq!(judged(&late), Restart { gave_up: false, waits: None });
    let of = |state: &UnitState| meaning::of_end(state, meaning::Known::default()).meaning;
    let start_failed = Meaning::Fault(Some(Verdict::StartFailed), meaning::Mend::Hold);
    assert_eq!(of(&late), start_failed);
    let unprepared = begun(UnitState { main_started: None, ..unit("failed", "failed", "exit-code") });
    assert_eq!(of(&unprepared), start_failed);
    for result in ["protocol", "resources"] {
        assert_eq!(of(&ended("failed", "failed", result, STOP)), start_failed);
    }
    // A stop that took longer than TimeoutStopSec= is still a stop.
    let slow = begun(UnitState { ready: Some(at(-999.0)), ..ended("failed", "failed", "timeout", STOP) });
    assert!(matches!(judged(&slow), StopRequested(_)));
}

#[test]
fn each_phase_ends_in_a_row_for_everything_else() {
    use meaning::{Course, Phase, ROWS};
    for phase in [
        Phase::Masked,
        Phase::NotLoaded,
        Phase::Starting,
        Phase::Restarting,
        Phase::Up,
        Phase::Finished,
        Phase::Stopping,
        Phase::Down,
    ] {
        let last = ROWS.iter().rfind(|row| row.phase == phase).unwrap();
        assert!(last.unit.is_none() && last.result.is_none() && last.course == Course::Any, "{last:?}");
    }
}

#[test]
fn a_unit_that_systemd_itself_fails_is_restarted() {
    // The unit leaves the active state first, as in a stop.
    for result in ["watchdog", "oom-kill"] {
        let state = ended("failed", "failed", result, STOP);
        assert_eq!(judged(&state), Restart { gave_up: false, waits: None });
    }
}

#[test]
fn a_start_that_systemd_gives_up_is_no_restart_by_its_own_job() {
    let state = UnitState { main_exited: Some(at(0.1)), ..unit("deactivating", "stop-sigterm", "timeout") };
    assert_eq!(judged(&with_job("start", state.clone())), judged(&state));
    assert_eq!(judged(&state), Restart { gave_up: false, waits: None });
}

#[test]
fn a_unit_failed_in_spite_of_restart_needs_a_reset() {
    // Too many starts leave the result of the last death in place, not start-limit-hit.
    let state = UnitState { restarts_itself: true, ..ended("failed", "failed", "signal", CRASH) };
    assert_eq!(judged(&state), Restart { gave_up: true, waits: None });
}

#[test]
fn a_requested_stop_shows_in_its_job_or_in_the_order_of_events() {
    for state in [
        with_job("stop", unit("active", "running", "success")),
        with_job("stop", UnitState { main_pid: 41, ..unit("deactivating", "stop-sigterm", "success") }),
        with_job("restart", UnitState { main_pid: 41, ..unit("deactivating", "stop-sigterm", "success") }),
        with_job("start", UnitState { main_pid: 41, ..unit("active", "running", "success") }),
        with_job("start", ended("failed", "failed", "signal", STOP)),
        ended("inactive", "dead", "success", STOP),
        ended("failed", "failed", "signal", STOP),
        ended("failed", "failed", "timeout", STOP),
        // SIGKILL to the process came before systemd's next log line.
        ended("inactive", "dead", "success", (0.05, 0.15)),
        // Stopped while it waited for its own restart.
        ended("inactive", "dead", "signal", CRASH),
        // No client kept it, so systemd has forgotten it.
        UnitState { invocation_id: String::new(), main_started: None, ..unit("inactive", "dead", "success") },
    ] {
        assert!(matches!(judged(&state), StopRequested(_)), "{state:?} is {:?}", judged(&state));
    }
}

#[test]
fn an_earlier_stop_is_not_taken_for_this_one() {
    // Died while starting (Type=notify): the unit was never active in this run.
    let state = ended("failed", "failed", "exit-code", (-1000.4, 0.2));
    assert_eq!(judged(&state), Restart { gave_up: false, waits: None });
    let state = ended("activating", "start-post", "signal", (-1000.4, 0.2));
    assert_eq!(judged(&state), Restart { gave_up: false, waits: None });
}

#[test]
fn systemds_own_restart_is_left_to_systemd_if_it_comes_at_once() {
    let mut state = ended("activating", "auto-restart", "signal", CRASH);
    state.restarts_itself = true;
    state.changed = Some(at(0.8));
    assert_eq!(judged(&state), RestartsItself(AT_ONCE));
    assert_eq!(judged(&with_job("restart", state.clone())), RestartsItself(AT_ONCE));
    state.restart_delay = Duration::from_millis(100);
    let left = Duration::from_micros(99_800);
    assert_eq!(judged(&state), Restart { gave_up: false, waits: Some(left) });
    // A start job waits for the delay too.
    assert_eq!(judged(&with_job("start", state)), Restart { gave_up: false, waits: Some(left) });
    assert_eq!(judged(&unit("activating", "start-pre", "success")), RestartsItself(AT_ONCE));
    assert_eq!(
        judged(&with_job("start", ended("failed", "failed", "signal", CRASH))),
        RestartsItself(AT_ONCE),
        "the operator starts it"
    );
    // It still ends what the main process has left.
    let mut state = ended("deactivating", "final-sigterm", "watchdog", CRASH);
    state.restarts_itself = true;
    assert_eq!(judged(&state), RestartsItself(AT_ONCE));
    state.restart_delay = Duration::from_millis(100);
    assert_eq!(judged(&state), Restart { gave_up: false, waits: None });
}

#[test]
fn a_new_main_process_is_a_restart_and_an_older_one_is_not() {
    let mut state = unit("active", "running", "success");
    (state.main, state.main_pid) = (Some(ProcessKey { pid: 42, start: at(-3.0) }), 42);
    assert_eq!(judged(&state), StillRuns);
    state.main_started = Some(at(1.9));
    assert_eq!(judged(&state), AlreadyRestarted { asked: true });
    state.restarts = 1;
    assert_eq!(judged(&state), AlreadyRestarted { asked: false });
    // The same pid, already dead again, but another invocation.
    let again =
        UnitState { invocation_id: "bb".into(), main_pid: 41, ..unit("active", "running", "success") };
    assert_eq!(judged(&again), AlreadyRestarted { asked: true });
}

#[test]
fn a_unit_that_cannot_be_loaded_is_reported_as_such() {
    let state = UnitState { load: "masked".into(), ..ended("failed", "failed", "signal", CRASH) };
    assert_eq!(judged(&state), NotLoaded("masked".into()));
}
