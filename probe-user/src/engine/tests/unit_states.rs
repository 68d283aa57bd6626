//! Units of each type end, stop and fail, as systemd 252 showed them.

use super::{
    units::{later, running_unit, waiting_unit},
    *,
};
use crate::fact::{EndedJob, NeededUnit};

/// A unit whose main process `pid` ended at `died` and that left the active state `left` µs after that.
pub(super) fn down(active: &str, result: &str, pid: u32, died: Timestamp, left: i64) -> UnitState {
    UnitState {
        active: active.into(),
        sub: if active == "failed" { "failed" } else { "dead" }.into(),
        result: result.into(),
        started: later(process(pid).start, 0),
        ready: later(process(pid).start, 0),
        restarts_itself: false,
        main: None,
        main_pid: 0,
        main_exited: later(died, 300),
        active_exit: later(died, left),
        changed: later(died, left.max(300)),
        ..running_unit(pid)
    }
}

/// A unit without probes, of which nothing is known yet.
fn unseen() -> Lab {
    let identity = Identity::Unit("api.service".into());
    Lab::of(false, &[service("api", identity, vec![], policy())])
}

/// The same, with a main process.
pub(super) fn plain() -> Lab {
    let mut lab = unseen();
    lab.see(Observation::Unit(API, running_unit(100)));
    lab.wait(LATER);
    lab.published.clear();
    lab
}

#[test]
fn a_oneshot_unit_that_succeeds_is_done_and_one_that_fails_is_held_until_it_succeeds() {
    let oneshot = |state: UnitState| UnitState { kind: "oneshot".into(), ready: None, ..state };
    let mut lab = unseen();
    let run = |lab: &mut Lab, pid, code, active, result| {
        let state =
            oneshot(UnitState { active: "activating".into(), sub: "start".into(), ..running_unit(pid) });
        lab.see(Observation::Unit(API, state));
        lab.wait(LATER);
        assert_ne!(lab.state(), ServiceState::Stopped);
        lab.die(pid, ExitStatus::Code(code), None);
        lab.see(Observation::Unit(API, oneshot(down(active, result, pid, lab.now, -1_000_000_000))));
        lab.wait(LATER);
    };
    run(&mut lab, 100, 0, "inactive", "success");
    assert_eq!((lab.incidents(), lab.state()), (vec![], ServiceState::Stopped));
    run(&mut lab, 101, 1, "failed", "exit-code");
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Exited, Severity::Critical)]);
    assert_eq!((lab.state(), lab.alerts().len()), (ServiceState::Down, 1));
    run(&mut lab, 102, 0, "inactive", "success");
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
    assert_eq!((lab.state(), lab.restarts_asked()), (ServiceState::Stopped, 0));
}

#[test]
fn a_unit_that_remains_after_its_exit_is_healthy() {
    let finished = |died| UnitState {
        sub: "exited".into(),
        active: "active".into(),
        active_exit: None,
        ..down("active", "success", 100, died, 0)
    };
    let mut lab = unseen();
    lab.see(Observation::Unit(API, finished(at(900))));
    assert_eq!(lab.state(), ServiceState::Healthy, "it had ended before the daemon started");
    let mut lab = plain();
    lab.die(100, ExitStatus::Code(0), None);
    lab.see(Observation::Unit(API, finished(lab.now)));
    lab.wait(LATER);
    assert_eq!((lab.state(), lab.incidents(), lab.restarts_asked()), (ServiceState::Healthy, vec![], 0));
}

#[test]
fn an_idle_unit_that_its_socket_starts_waits_for_it_and_a_killed_one_is_restarted() {
    for by in ["api.socket", "api.timer", "api.path"] {
        let triggered = |state| UnitState { triggered_by: vec![by.into()], ..state };
        let mut lab = plain();
        lab.die(100, ExitStatus::Code(0), None);
        lab.see(Observation::Unit(API, triggered(down("inactive", "success", 100, lab.now, 500))));
        lab.wait(LATER);
        assert_eq!((lab.state(), lab.incidents()), (ServiceState::Stopped, vec![]), "{by}");
        let reason = lab.engine.view().next().unwrap().error.unwrap();
        assert!(reason.contains(by), "{reason}");
        let mut lab = plain();
        lab.killed(100);
        lab.see(Observation::Unit(API, triggered(down("failed", "signal", 100, lab.now, 500))));
        assert_eq!(lab.incidents()[0].1, Verdict::Killed);
        assert_eq!(lab.restarts_asked(), usize::from(by == "api.socket"), "{by}");
    }
}

#[test]
fn a_stop_of_a_failed_unit_ends_its_incident_and_a_reset_does_not() {
    let mut lab = plain();
    let second_death = |lab: &mut Lab| {
        lab.killed(100);
        lab.see(Observation::Unit(API, down("failed", "signal", 100, lab.now, 500)));
        lab.see(Observation::RestartOutcome(API, Ok(())));
        lab.see(Observation::Unit(API, running_unit(101)));
        lab.killed(101);
        let failed = down("failed", "signal", 101, lab.now, 500);
        lab.see(Observation::Unit(API, failed.clone()));
        assert_eq!(lab.restarts_asked(), 1, "the second restart waits for the back-off");
        failed
    };
    let failed = second_death(&mut lab);
    // systemd changes nothing of a failed unit that is stopped: only its job comes and goes.
    let job = |result: &str| Some(EndedJob { id: 34, result: result.into(), idle: true });
    lab.see(Observation::Unit(API, UnitState { ended_job: job("done"), ..failed }));
    assert_eq!((lab.state(), lab.incidents().last().unwrap().0), (ServiceState::Stopped, Phase::Resolve));
    lab.wait(LATER);
    assert_eq!((lab.restarts_asked(), lab.state()), (1, ServiceState::Stopped));
    assert_eq!(lab.alerts(), []);

    // The job's end is the answer to the question before the second restart.
    let mut lab = plain();
    let failed = second_death(&mut lab);
    lab.wait(Duration::from_secs(2));
    lab.see(Observation::Unit(API, UnitState { ended_job: job("done"), ..failed }));
    lab.wait(LATER);
    assert_eq!((lab.restarts_asked(), lab.state()), (1, ServiceState::Stopped));

    let mut lab = plain();
    let failed = second_death(&mut lab);
    let reset =
        UnitState { active: "inactive".into(), sub: "dead".into(), result: "success".into(), ..failed };
    lab.see(Observation::Unit(API, reset.clone()));
    assert_eq!(lab.state(), ServiceState::Down, "no operator stopped it");
    lab.wait(Duration::from_secs(2));
    lab.see(Observation::Unit(API, reset));
    assert_eq!((lab.restarts_asked(), lab.incidents().len()), (2, 2));
}

#[test]
fn a_stopped_unit_that_was_started_and_died_unseen_has_failed() {
    let mut lab = plain();
    lab.die(100, ExitStatus::Signal { number: 15, core_dumped: false }, None);
    let stopped = down("inactive", "success", 100, lab.now, -400);
    lab.see(Observation::Unit(API, stopped.clone()));
    lab.see(Observation::Unit(API, UnitState { result: "exit-code".into(), ..stopped }));
    assert_eq!((lab.state(), lab.incidents()), (ServiceState::Stopped, vec![]));
    lab.see(Observation::Unit(API, down("failed", "signal", 101, lab.now, 500)));
    assert_eq!((lab.incidents()[0].1, lab.restarts_asked()), (Verdict::Killed, 1));
}

#[test]
fn a_start_that_times_out_is_its_own_incident() {
    let starting = |pid| UnitState { active: "activating".into(), sub: "start".into(), ..running_unit(pid) };
    let systemd =
        Sender::Process { pid: SYSTEMD, name: "systemd".into(), user_id: 0, unit: None, terminal: false };
    let timed_out = |lab: &mut Lab, pid| {
        lab.see(Observation::Unit(API, starting(pid)));
        assert_eq!(lab.state(), ServiceState::Starting);
        lab.wait(Duration::from_secs(3));
        let sigterm = ExitStatus::Signal { number: 15, core_dumped: false };
        lab.die(pid, sigterm, Some(systemd.clone()));
        UnitState { ready: None, active_exit: None, ..down("failed", "timeout", pid, lab.now, 0) }
    };
    let mut lab = unseen();
    let failed = timed_out(&mut lab, 100);
    lab.see(Observation::Unit(API, failed));
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::StartFailed, Severity::Critical)]);
    lab.see(Observation::Context(API, FaultContext::default()));
    assert_eq!((lab.alerts().len(), lab.restarts_asked(), lab.state()), (1, 0, ServiceState::Down));

    // With Restart=on-failure systemd tries it again and again, and that spends the budget.
    let mut lab = unseen();
    for pid in 100..107 {
        let ended = timed_out(&mut lab, pid);
        let waiting = waiting_unit(pid, lab.now, Duration::from_millis(100));
        lab.see(Observation::Unit(
            API,
            UnitState {
                result: "timeout".into(),
                active_exit: None,
                ready: None,
                started: ended.started,
                ..waiting
            },
        ));
        lab.wait(Duration::from_millis(160));
    }
    assert_eq!(lab.incidents()[0].1, Verdict::StartFailed);
    assert_eq!(lab.incidents().last().unwrap().1, Verdict::CrashLoop);
    // The last failure, after which systemd gives up, is no other news.
    let told = lab.incidents().len();
    let failed = timed_out(&mut lab, 107);
    lab.see(Observation::Unit(API, failed));
    assert_eq!((lab.incidents().len(), lab.state()), (told, ServiceState::Down));
    assert_eq!(lab.restarts_asked(), 0);
}

#[test]
fn a_failed_start_is_held_though_the_unit_is_up_without_a_process_later() {
    let mut lab = plain();
    lab.killed(100);
    let ended = down("activating", "protocol", 100, lab.now, 500);
    let waiting = UnitState { sub: "auto-restart".into(), ready: None, restarts_itself: true, ..ended };
    lab.see(Observation::Unit(API, UnitState { restart_delay: Duration::ZERO, ..waiting }));
    assert_eq!(lab.incidents()[0].1, Verdict::StartFailed);
    // systemd's own restart is overdue, and the daemon reads the unit's state again.
    lab.wait(Duration::from_secs(1));
    lab.see(Observation::Unit(API, UnitState { main: None, main_pid: 0, ..running_unit(101) }));
    lab.wait(LATER);
    assert_eq!(lab.restarts_asked(), 0, "{:?}", lab.restarts());
}

#[test]
fn of_two_states_of_a_unit_that_ended_the_later_tells_why() {
    let mut lab = plain();
    let ended = |lab: &Lab, result| down("failed", result, 100, lab.now, 500);
    let timed_out = UnitState { ready: None, ..ended(&lab, "timeout") };
    lab.see(Observation::Unit(API, timed_out));
    lab.see(Observation::Unit(API, ended(&lab, "signal")));
    assert_eq!((lab.incidents()[0].1, lab.restarts_asked()), (Verdict::Killed, 1));
}

#[test]
fn a_start_without_a_limit_is_told_after_a_while_and_a_oneshot_may_take_its_time() {
    let starting = |kind: &str| UnitState {
        kind: kind.into(),
        active: "activating".into(),
        sub: "start".into(),
        start_timeout: None,
        ..running_unit(100)
    };
    for (kind, told) in [("notify", 1), ("oneshot", 0)] {
        let mut lab = unseen();
        lab.see(Observation::Unit(API, starting(kind)));
        lab.wait(Duration::from_secs(3600));
        assert_eq!((lab.incidents().len(), lab.restarts_asked()), (told, 0), "{kind}");
        lab.see(Observation::Unit(API, UnitState { kind: kind.into(), ..running_unit(100) }));
        lab.wait(LATER);
        assert_eq!(lab.state(), ServiceState::Healthy);
        assert_eq!(lab.incidents().len(), 2 * told);
    }
}

#[test]
fn systemd_s_watchdog_is_a_hang() {
    let mut lab = plain();
    let systemd =
        Sender::Process { pid: SYSTEMD, name: "systemd".into(), user_id: 0, unit: None, terminal: false };
    lab.die(100, ExitStatus::Signal { number: 6, core_dumped: true }, Some(systemd));
    lab.see(Observation::Unit(API, down("failed", "watchdog", 100, lab.now, -9000)));
    assert_eq!((lab.incidents()[0].1, lab.restarts_asked()), (Verdict::Hung, 1));
    let summary = lab.engine.view().next().unwrap().incident.unwrap().summary;
    assert!(summary.contains("WatchdogSec=") && summary.contains("SIGABRT"), "{summary}");
}

#[test]
fn what_systemd_ended_is_named_though_systemd_has_restarted_the_unit_already() {
    let systemd =
        || Sender::Process { pid: SYSTEMD, name: "systemd".into(), user_id: 0, unit: None, terminal: false };
    let abort = ExitStatus::Signal { number: 6, core_dumped: true };
    // The first state that the daemon reads is that of the next run, whose result is a success.
    let next = |lab: &Lab, watchdog| UnitState {
        restarts: 1,
        main_started: Some(lab.now.plus(Duration::from_millis(2))),
        watchdog,
        watchdog_signal: 6,
        ..running_unit(101)
    };
    let verdict = |lab: &Lab| (lab.incidents()[0].1, lab.restarts_asked());
    let mut lab = plain();
    lab.die(100, abort, Some(systemd()));
    let state = next(&lab, Some(Duration::from_secs(1)));
    lab.see(Observation::Unit(API, state));
    assert_eq!(verdict(&lab), (Verdict::Hung, 0));
    let summary = lab.engine.view().next().unwrap().incident.unwrap().summary;
    assert!(summary.contains("WatchdogSec=") && summary.contains("SIGABRT"), "{summary}");

    let mut lab = plain();
    lab.die(100, abort, Some(systemd()));
    let state = next(&lab, None);
    lab.see(Observation::Unit(API, state));
    assert_eq!(verdict(&lab), (Verdict::Killed, 0), "it has no watchdog");

    // An earlier state of the dead run has the result.
    let term = ExitStatus::Signal { number: 15, core_dumped: false };
    for (result, right) in [("watchdog", Verdict::Hung), ("oom-kill", Verdict::OomKilled)] {
        let mut lab = plain();
        let stopping = UnitState {
            active: "deactivating".into(),
            sub: "stop-sigterm".into(),
            result: result.into(),
            ..running_unit(100)
        };
        lab.see(Observation::Unit(API, stopping));
        lab.die(100, term, Some(systemd()));
        let state = next(&lab, None);
        lab.see(Observation::Unit(API, state));
        assert_eq!(verdict(&lab), (right, 0), "{result}");
    }
}

#[test]
fn a_stop_that_takes_minutes_stays_quiet() {
    let deadline = Duration::from_secs(300);
    let slow = |state| UnitState {
        stop_timeout: Some(deadline),
        start_timeout: Some(Duration::from_secs(90)),
        active_exit: later(at(1100), 0),
        ..state
    };
    let stopping = |kind: &str, at| {
        let job = Some(UnitJob { id: 9, kind: kind.into() });
        slow(UnitState {
            at,
            active: "deactivating".into(),
            sub: "stop-sigterm".into(),
            job,
            ..running_unit(100)
        })
    };
    // hostprobe's own restart of a service that hangs.
    let mut lab = Lab::unit();
    lab.see(Observation::Unit(API, slow(running_unit(100))));
    lab.wait(LATER);
    time_out(&mut lab, 3);
    lab.see(Observation::Unit(API, slow(running_unit(100))));
    lab.see(snapshot());
    lab.see(Observation::Unit(API, slow(running_unit(100))));
    assert_eq!(lab.restarts_asked(), 1);
    lab.see(Observation::Unit(API, stopping("restart", lab.now)));
    let (incidents, restarts) = (lab.incidents().len(), lab.restarts().len());
    for _ in 0..150 {
        lab.wait(Duration::from_secs(1));
        time_out(&mut lab, 1);
    }
    assert_eq!(lab.incidents().last().unwrap().1, Verdict::Hung);
    assert_eq!((lab.incidents().len(), lab.restarts().len()), (incidents, restarts), "nothing has changed");
    // An operator's stop.
    let mut lab = Lab::unit();
    lab.wait(LATER);
    lab.see(Observation::Unit(API, stopping("stop", lab.now)));
    for _ in 0..150 {
        lab.wait(Duration::from_secs(1));
        time_out(&mut lab, 1);
    }
    assert_eq!((lab.state(), lab.incidents(), lab.restarts_asked()), (ServiceState::Stopped, vec![], 0));
}

const BASE: ServiceId = ServiceId(1);

/// Two units: the first needs the second.
fn pair() -> Lab {
    let unit = |name: &str| service(name, Identity::Unit(format!("{name}.service")), vec![], policy());
    let mut lab = Lab::of(false, &[unit("api"), unit("base")]);
    lab.see(Observation::Unit(API, running_unit(100)));
    lab.see(Observation::Unit(BASE, UnitState { id: "base.service".into(), ..running_unit(200) }));
    lab.wait(LATER);
    lab.published.clear();
    lab
}

fn needs(active: &str, result: &str, left: Timestamp) -> Vec<NeededUnit> {
    vec![NeededUnit {
        id: "base.service".into(),
        relation: "BindsTo".into(),
        active: active.into(),
        result: result.into(),
        restarts: 0,
        left: Some(left),
    }]
}

#[test]
fn a_unit_that_went_down_with_one_that_it_needs_is_held_until_that_one_is_back() {
    let mut lab = pair();
    let killed = exit(200, lab.now, KILL, Some(bash()));
    lab.see(Observation::Exit(killed, Membership { service: BASE, main: true }, EventId(901)));
    let died = lab.now;
    let id = || "base.service".to_owned();
    lab.see(Observation::Unit(BASE, UnitState { id: id(), ..down("failed", "signal", 200, died, 500) }));
    assert_eq!(lab.restarts_asked(), 1);
    // systemd stops the unit that is bound to it.
    lab.die(100, ExitStatus::Signal { number: 15, core_dumped: false }, None);
    let taken = UnitState {
        needs: needs("failed", "signal", died),
        ..down("inactive", "success", 100, lab.now, -400)
    };
    lab.see(Observation::Unit(API, taken.clone()));
    let api = |lab: &Lab| lab.engine.view().next().unwrap();
    let incident = api(&lab).incident.unwrap();
    assert_eq!((incident.verdict, incident.cause), (Verdict::DependencyDown, BASE));
    assert!(incident.summary.contains("base.service (BindsTo=), which failed"), "{}", incident.summary);
    assert_eq!(lab.restarts_asked(), 1, "not before its cause");
    lab.see(Observation::RestartOutcome(BASE, Ok(())));
    lab.see(Observation::Unit(BASE, UnitState { id: id(), ..running_unit(201) }));
    lab.wait(Duration::from_secs(2));
    lab.see(Observation::Unit(API, UnitState { needs: needs("active", "success", died), ..taken }));
    assert_eq!(lab.restarts_asked(), 2, "{:?}", lab.published);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Unit(API, running_unit(101)));
    lab.wait(LATER);
    assert_eq!((api(&lab).state, api(&lab).incident), (ServiceState::Healthy, None));
}

#[test]
fn the_end_of_a_stop_with_a_failed_unit_is_no_stop_by_an_operator() {
    let mut lab = pair();
    let died = lab.now;
    let killed = exit(200, died, KILL, Some(bash()));
    lab.see(Observation::Exit(killed, Membership { service: BASE, main: true }, EventId(901)));
    let base = |state| UnitState { id: "base.service".into(), ..state };
    lab.see(Observation::Unit(BASE, base(down("failed", "signal", 200, died, 500))));
    lab.die(100, ExitStatus::Signal { number: 15, core_dumped: false }, None);
    // The first state is from before the end of the stop, and the needed unit is up again by then.
    let stop = Some(UnitJob { id: 1, kind: "stop".into() });
    let stopping = UnitState { job: stop, main: None, main_pid: 0, ..running_unit(100) };
    lab.see(Observation::Unit(API, UnitState { needs: needs("active", "success", died), ..stopping }));
    let taken = UnitState {
        needs: needs("active", "success", died),
        ..down("inactive", "success", 100, lab.now, -400)
    };
    lab.see(Observation::Unit(API, taken.clone()));
    lab.see(Observation::RestartOutcome(BASE, Ok(())));
    lab.see(Observation::Unit(BASE, base(running_unit(201))));
    lab.wait(Duration::from_secs(2));
    lab.see(Observation::Unit(API, taken));
    assert_eq!(lab.restarts_asked(), 2, "{:?}", lab.published);
}

#[test]
fn a_unit_that_was_stopped_with_one_that_it_needs_is_stopped_and_says_so() {
    let mut lab = pair();
    lab.die(100, ExitStatus::Signal { number: 15, core_dumped: false }, None);
    let left = later(lab.now, -300).unwrap();
    let taken = UnitState {
        needs: needs("inactive", "success", left),
        ..down("inactive", "success", 100, lab.now, -400)
    };
    lab.see(Observation::Unit(API, taken));
    lab.wait(LATER);
    let view = lab.engine.view().next().unwrap();
    assert_eq!((view.state, view.incident), (ServiceState::Stopped, None));
    assert!(view.error.unwrap().contains("base.service (BindsTo=)"));
    assert_eq!(lab.restarts_asked(), 0);
}

#[test]
fn a_unit_that_cannot_be_started_is_told_and_a_masked_or_skipped_one_is_at_rest() {
    let never = |load: &str| UnitState {
        load: load.into(),
        active: "inactive".into(),
        sub: "dead".into(),
        result: "success".into(),
        ..UnitState::default()
    };
    for (state, expected) in [
        (never("loaded"), ServiceState::Stopped),
        (never("masked"), ServiceState::Stopped),
        (UnitState { skipped: true, ..never("loaded") }, ServiceState::Stopped),
        (UnitState { result: "exec-condition".into(), ..never("loaded") }, ServiceState::Stopped),
        (never("not-found"), ServiceState::Down),
        (never("bad-setting"), ServiceState::Down),
    ] {
        let mut lab = unseen();
        lab.see(Observation::Unit(API, state.clone()));
        lab.wait(LATER);
        assert_eq!((lab.state(), lab.restarts_asked()), (expected, 0), "{state:?}");
        let failed = expected == ServiceState::Down;
        assert_eq!(lab.incidents().len(), usize::from(failed));
        assert!(!failed || lab.incidents()[0].1 == Verdict::StartFailed);
    }
}

#[test]
fn a_unit_without_a_main_process_is_healthy_and_its_end_is_seen() {
    let forked = UnitState { kind: "forking".into(), main: None, main_pid: 0, ..running_unit(100) };
    let mut lab = unseen();
    lab.see(Observation::Unit(API, forked));
    assert_eq!(lab.state(), ServiceState::Healthy);
    let ended =
        UnitState { main_started: None, main_exited: None, ..down("inactive", "success", 100, lab.now, 0) };
    lab.see(Observation::Unit(API, ended));
    assert_eq!((lab.incidents()[0].1, lab.restarts_asked()), (Verdict::Exited, 1));
}
