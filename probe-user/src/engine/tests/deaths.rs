//! Deaths, restarts, budgets and alerts.

use super::*;

#[test]
fn a_kill_is_one_incident_one_restart_one_resolve() {
    let mut lab = Lab::exec();
    lab.killed(100);
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Killed, Severity::Critical)]);
    assert_eq!(lab.restarts_asked(), 1);
    assert_eq!(lab.state(), ServiceState::Starting);
    lab.comes_back(101);
    assert_eq!(lab.incidents().last(), Some(&(Phase::Resolve, Verdict::Killed, Severity::Info)));
    assert_eq!(lab.incidents().len(), 2);
    assert_eq!(lab.state(), ServiceState::Healthy);
    let Some(Fact::Incident(_, incident)) =
        lab.published.iter().find(|fact| matches!(fact, Fact::Incident(..)))
    else {
        panic!("no incident")
    };
    assert!(incident.summary.contains("SIGKILL from bash (pid 4000, uid 0)"), "{}", incident.summary);
    assert_eq!(incident.evidence, [EventId(900)]);
}

#[test]
fn the_sender_of_the_signal_decides_between_crashed_and_killed() {
    let verdict = |status, sender| {
        let mut lab = Lab::exec();
        lab.die(100, status, sender);
        lab.wait(LATER);
        lab.incidents()[0].1
    };
    assert_eq!(verdict(SEGV, Some(Sender::Kernel)), Verdict::Crashed);
    assert_eq!(verdict(SEGV, Some(Sender::Itself)), Verdict::Crashed);
    assert_eq!(verdict(SEGV, Some(bash())), Verdict::Killed);
    assert_eq!(verdict(SEGV, None), Verdict::Crashed);
    assert_eq!(verdict(KILL, None), Verdict::Killed);
    assert_eq!(verdict(KILL, Some(Sender::Itself)), Verdict::Exited);
    assert_eq!(
        verdict(ExitStatus::Signal { number: 6, core_dumped: false }, Some(Sender::Itself)),
        Verdict::Crashed
    );
    assert_eq!(verdict(ExitStatus::Code(0), None), Verdict::Exited);
    assert_eq!(verdict(ExitStatus::Code(3), Some(bash())), Verdict::Exited);
}

#[test]
fn an_incident_healed_at_once_alerts_as_info_only() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.comes_back(101);
    assert_eq!(
        lab.alerts(),
        [(Verdict::Killed, Severity::Info, false), (Verdict::Killed, Severity::Info, true)]
    );
}

#[test]
fn a_lasting_incident_alerts_once_with_its_severity() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Running(API, process(101)));
    lab.wait(Duration::from_secs(60));
    assert_eq!(lab.alerts(), [(Verdict::Killed, Severity::Critical, false)]);
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.alerts()[1..], [(Verdict::Killed, Severity::Critical, true)]);
}

#[test]
fn a_spent_budget_is_a_crash_loop_with_a_long_back_off() {
    let mut lab = Lab::exec();
    for pid in 100..105 {
        lab.killed(pid);
        lab.comes_back(pid + 1);
    }
    lab.killed(105);
    assert_eq!(lab.restarts_asked(), 5);
    assert_eq!(lab.incidents().last(), Some(&(Phase::Update, Verdict::CrashLoop, Severity::Critical)));
    assert!(matches!(&lab.restarts().last().unwrap().action, Action::Hold(why) if why.contains("5 per 10m")));
    assert_eq!(lab.state(), ServiceState::Down);
    lab.wait(Duration::from_secs(299));
    assert_eq!(lab.restarts_asked(), 5);
    lab.wait(Duration::from_secs(2));
    assert_eq!(lab.restarts_asked(), 6);
    lab.comes_back(106);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
}

#[test]
fn restarts_in_a_row_back_off() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Running(API, process(101)));
    lab.killed(101);
    assert_eq!(lab.restarts_asked(), 1);
    assert!(
        matches!(&lab.restarts().last().unwrap().action, Action::Hold(why) if why.contains("1s before attempt 2"))
    );
    lab.wait(Duration::from_millis(999));
    assert_eq!(lab.restarts_asked(), 1);
    lab.wait(Duration::from_millis(2));
    assert_eq!(lab.restarts_asked(), 2);
}

#[test]
fn a_failed_restart_is_tried_again() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.see(Observation::RestartOutcome(API, Err("No such file".into())));
    assert!(lab.restarts().iter().any(|restart| matches!(&restart.action, Action::Fail(_))));
    lab.wait(Duration::from_secs(1));
    assert_eq!(lab.restarts_asked(), 2);
}

#[test]
fn with_observe_the_hold_gives_its_reason() {
    let mut lab = Lab::with_observe(true, exec_identity(), vec![http_probe()], policy());
    lab.killed(100);
    let [Restart { action: Action::Hold(why), .. }] = lab.restarts()[..] else {
        panic!("{:?}", lab.published)
    };
    assert!(why.contains("--observe"), "{why}");
    assert_eq!((lab.restarts_asked(), lab.state()), (0, ServiceState::Down));
}

#[test]
fn without_a_restart_policy_the_engine_only_reports() {
    let matched = Identity::Match(config::Matcher { port: Some(8080), ..config::Matcher::default() });
    let mut lab = Lab::new(matched, vec![http_probe()], RestartPolicy::default());
    lab.killed(100);
    assert_eq!(lab.restarts_asked(), 0);
    assert!(matches!(&lab.restarts()[0].action, Action::Hold(why) if why.contains("not enabled")));
    assert_eq!(lab.alerts(), [], "another supervisor may heal it at once");
    lab.wait(Duration::from_secs(10));
    assert_eq!(lab.alerts(), [(Verdict::Killed, Severity::Critical, false)]);
    lab.see(Observation::Running(API, process(101)));
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
}
