//! The operator's commands: a stop, a start, a restart, a pause, an acknowledgement.

use super::{units::running_unit, *};
use crate::fact::{IncidentId, OperatorCommand, Orders};

const MINUTE: Duration = Duration::from_secs(60);

impl Lab {
    fn order(&self, kind: CommandKind) -> Order {
        order(kind, self.now)
    }

    fn command(&mut self, command: OperatorCommand) {
        self.see(Observation::Operator(API, command));
    }

    fn stop(&mut self) {
        self.command(OperatorCommand::Stop(self.order(CommandKind::Stop)));
    }

    fn start(&mut self) {
        self.command(OperatorCommand::Start(self.order(CommandKind::Start)));
    }

    fn restart(&mut self) {
        self.command(OperatorCommand::Restart(self.order(CommandKind::Restart)));
    }

    fn pause(&mut self, lasts: Option<Duration>) {
        let until = lasts.map(|lasts| self.now.plus(lasts));
        let order = Order { until, ..self.order(CommandKind::Pause) };
        self.command(OperatorCommand::Pause(order));
    }

    fn resume(&mut self) {
        self.command(OperatorCommand::Resume(self.order(CommandKind::Resume)));
    }

    fn ack(&mut self, incident: u64, lasts: Option<Duration>) {
        let until = lasts.map(|lasts| self.now.plus(lasts));
        let order = Order { until, ..self.order(CommandKind::Ack) };
        self.command(OperatorCommand::Ack(IncidentId::new(incident), order));
    }

    pub(super) fn holds(&self) -> Vec<String> {
        let why = |restart: &Restart| match &restart.action {
            Action::Hold(why) => Some(why.clone()),
            Action::Request | Action::Done | Action::Fail(_) => None,
        };
        self.restarts().into_iter().filter_map(why).collect()
    }

    /// The orders that the daemon was asked to keep last.
    fn kept(&self) -> Option<Orders> {
        let kept = |effect: &Effect| {
            if let Effect::KeepOrders { orders, .. } = effect { Some(orders.clone()) } else { None }
        };
        self.requested.iter().rev().find_map(kept)
    }

    fn suppressed(&self) -> usize {
        self.published.iter().filter(|fact| matches!(fact, Fact::AlertSuppressed(_))).count()
    }
}

fn running(pid: u32) -> UnitState {
    UnitState { started: Some(at(900)), ready: Some(at(900)), ..running_unit(pid) }
}

fn down(active: &str, result: &str) -> UnitState {
    UnitState {
        active: active.into(),
        sub: "dead".into(),
        result: result.into(),
        main: None,
        main_pid: 0,
        ..running(100)
    }
}

#[test]
fn a_stopped_command_stays_stopped_until_it_is_started() {
    let mut lab = Lab::exec();
    lab.stop();
    assert!(lab.requested.contains(&Effect::Stop(API)));
    assert_eq!(lab.kept().unwrap().stop.unwrap().reason.as_deref(), Some("the disk is replaced"));
    lab.die(100, ExitStatus::Signal { number: 15, core_dumped: false }, Some(bash()));
    for _ in 0..5 {
        lab.refuse();
        lab.wait(MINUTE);
    }
    assert_eq!((lab.state(), lab.incidents(), lab.restarts_asked()), (ServiceState::Stopped, vec![], 0));
    assert_eq!(lab.states(), [ServiceState::Stopped]);
    assert_eq!(
        lab.engine.view().next().unwrap().error.as_deref(),
        Some("stopped by root: the disk is replaced")
    );

    lab.start();
    assert_eq!((lab.restarts_asked(), lab.kept()), (1, Some(Orders::default())));
    lab.comes_back(101);
    assert_eq!((lab.state(), lab.incidents()), (ServiceState::Healthy, vec![]));
    // From now on, its end is a failure again.
    lab.killed(101);
    assert_eq!(lab.restarts_asked(), 2);
}

/// Its restarts have spent their budget.
fn in_a_crash_loop() -> Lab {
    let mut lab = Lab::exec();
    for pid in 100..106 {
        lab.killed(pid);
        lab.wait(MINUTE);
        lab.comes_back(pid + 1);
    }
    lab.killed(106);
    lab
}

#[test]
fn a_stop_ends_the_incident_of_a_service_in_a_crash_loop() {
    let mut lab = in_a_crash_loop();
    let before = lab.restarts_asked();
    lab.stop();
    let (phase, ..) = *lab.incidents().last().unwrap();
    assert_eq!((phase, lab.state()), (Phase::Resolve, ServiceState::Stopped));
    lab.wait(Duration::from_secs(3600));
    assert_eq!(lab.restarts_asked(), before);
}

#[test]
fn a_stopped_unit_stays_stopped_whatever_systemd_says_of_its_end() {
    for (active, result) in [("inactive", "success"), ("failed", "timeout"), ("failed", "exit-code")] {
        let mut lab = Lab::unit();
        lab.stop();
        lab.see(Observation::Unit(API, UnitState { active: "deactivating".into(), ..running(100) }));
        lab.die(100, KILL, Some(bash()));
        lab.see(Observation::Unit(API, down(active, result)));
        lab.refuse();
        lab.wait(MINUTE);
        assert_eq!((lab.state(), lab.incidents()), (ServiceState::Stopped, vec![]), "{active} {result}");
        assert_eq!(lab.restarts_asked(), 0);
        assert!(lab.kept().unwrap().stop.is_some());
    }
}

#[test]
fn a_start_by_systemctl_ends_the_operator_s_stop() {
    let mut lab = Lab::unit();
    lab.stop();
    lab.die(100, KILL, Some(bash()));
    lab.see(Observation::Unit(API, down("inactive", "success")));
    lab.wait(MINUTE);
    lab.see(Observation::Unit(API, UnitState { started: Some(lab.now), ..running(101) }));
    lab.answer(ProbeOutcome::Ok);
    assert_eq!((lab.state(), lab.kept()), (ServiceState::Healthy, Some(Orders::default())));
    lab.killed(101);
    assert!(lab.requested.contains(&Effect::InspectUnit(API)), "it is watched again");
}

#[test]
fn a_stop_that_fails_is_forgotten() {
    let mut lab = Lab::unit();
    lab.stop();
    lab.command(OperatorCommand::StopFailed("not permitted".into()));
    assert_eq!(lab.kept(), Some(Orders::default()));
    lab.see(Observation::Unit(API, running(100)));
    lab.answer(ProbeOutcome::Ok);
    assert_eq!((lab.state(), lab.incidents()), (ServiceState::Healthy, vec![]));
}

#[test]
fn a_restart_on_request_is_no_incident_and_spends_no_budget() {
    for (mut lab, is_unit) in [(Lab::exec(), false), (Lab::unit(), true)] {
        for pid in 100..120 {
            lab.restart();
            lab.die(pid, ExitStatus::Signal { number: 15, core_dumped: false }, Some(bash()));
            lab.see(Observation::RestartOutcome(API, Ok(())));
            if is_unit {
                lab.see(Observation::Unit(API, running(pid + 1)));
            }
            lab.comes_back(pid + 1);
            assert_eq!(lab.state(), ServiceState::Healthy);
        }
        assert_eq!((lab.incidents(), lab.restarts_asked()), (vec![], 20));
        let done = lab.restarts().iter().filter(|it| it.action == Action::Done).count();
        assert!(done >= 20, "{done}");
        assert!(lab.restarts().iter().all(|it| it.budget_left == 5), "{:?}", lab.restarts());
    }
}

#[test]
fn a_start_ends_the_back_off_of_a_crash_loop() {
    let mut lab = in_a_crash_loop();
    assert_eq!(lab.incidents().last().unwrap().1, Verdict::CrashLoop);
    let before = lab.restarts_asked();
    lab.start();
    assert_eq!(lab.restarts_asked(), before + 1);
    lab.comes_back(107);
    assert_eq!((lab.incidents().last().unwrap().0, lab.state()), (Phase::Resolve, ServiceState::Healthy));
}

#[test]
fn a_requested_restart_that_fails_is_an_incident() {
    let mut lab = Lab::exec();
    lab.restart();
    lab.die(100, KILL, Some(bash()));
    lab.see(Observation::RestartOutcome(API, Err("no such file".into())));
    assert_eq!(lab.incidents().first().map(|it| (it.0, it.1)), Some((Phase::Open, Verdict::Exited)));
}

#[test]
fn a_pause_holds_restart_and_alert_and_both_come_at_its_end() {
    for by_hand in [true, false] {
        let mut lab = Lab::exec();
        lab.pause((!by_hand).then_some(10 * MINUTE));
        lab.killed(100);
        lab.wait(9 * MINUTE);
        assert_eq!((lab.restarts_asked(), lab.alerts(), lab.suppressed()), (0, vec![], 1));
        assert_eq!(lab.holds(), ["paused by root: the disk is replaced"]);
        assert_eq!(lab.incidents().len(), 1, "the incident is opened all the same");
        if by_hand {
            lab.resume();
        } else {
            lab.wait(MINUTE);
        }
        assert_eq!((lab.restarts_asked(), lab.alerts().len()), (1, 1), "by hand: {by_hand}");
        assert_eq!(lab.kept(), Some(Orders::default()));
        lab.comes_back(101);
        assert_eq!(lab.alerts().last().map(|alert| alert.2), Some(true));
    }
}

#[test]
fn orders_without_a_pause_end_the_one_before() {
    let mut lab = Lab::exec();
    lab.pause(None);
    lab.killed(100);
    assert_eq!(lab.restarts_asked(), 0);
    lab.command(OperatorCommand::Remembered(Orders::default()));
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn what_is_over_at_the_end_of_a_pause_is_told_to_no_receiver() {
    let mut lab = Lab::exec();
    lab.pause(None);
    lab.killed(100);
    lab.wait(MINUTE);
    lab.see(Observation::Running(API, process(101)));
    lab.answer(ProbeOutcome::Ok);
    lab.resume();
    lab.wait(MINUTE);
    assert_eq!((lab.state(), lab.alerts(), lab.restarts_asked()), (ServiceState::Healthy, vec![], 0));
}

#[test]
fn an_alert_from_before_a_pause_ends_within_it() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Running(API, process(101)));
    lab.wait(MINUTE);
    assert_eq!(lab.alerts().len(), 1);
    lab.pause(None);
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(
        lab.alerts().last().map(|alert| alert.2),
        Some(true),
        "the receiver must not take it for open"
    );
}

#[test]
fn a_back_off_that_ends_within_a_pause_waits_for_its_end() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.comes_back(101);
    lab.killed(101);
    lab.see(Observation::RestartOutcome(API, Err("no".into())));
    lab.pause(None);
    let before = lab.restarts_asked();
    lab.wait(10 * MINUTE);
    assert_eq!(lab.restarts_asked(), before);
    lab.resume();
    assert_eq!(lab.restarts_asked(), before + 1);
}

#[test]
fn an_acknowledged_incident_alerts_no_more_and_its_end_is_told_if_its_beginning_was() {
    for alerted_before in [true, false] {
        let mut lab = Lab::exec();
        lab.killed(100);
        lab.see(Observation::RestartOutcome(API, Ok(())));
        lab.see(Observation::Running(API, process(101)));
        if alerted_before {
            lab.wait(MINUTE);
        }
        let before = lab.alerts().len();
        lab.ack(1, None);
        lab.wait(MINUTE);
        assert_eq!(lab.alerts().len(), before);
        lab.answer(ProbeOutcome::Ok);
        assert_eq!(lab.state(), ServiceState::Healthy);
        let ends = lab.alerts().iter().filter(|alert| alert.2).count();
        assert_eq!((lab.alerts().len(), ends), (2 * before, before));
        // The next incident is another one.
        lab.wait(MINUTE);
        lab.killed(101);
        lab.wait(MINUTE);
        assert!(lab.alerts().len() > 2 * before);
    }
}

#[test]
fn an_acknowledgement_ends_after_its_time_and_names_one_incident() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.ack(7, None);
    assert!(lab.engine.view().next().unwrap().acknowledged.is_none());
    lab.ack(1, Some(MINUTE));
    assert!(lab.engine.view().next().unwrap().acknowledged.is_some());
    lab.wait(MINUTE - Duration::from_secs(1));
    assert_eq!((lab.alerts(), lab.suppressed()), (vec![], 1));
    lab.wait(Duration::from_secs(1));
    assert_eq!(lab.alerts().len(), 1);
}

#[test]
fn remembered_orders_are_in_force_after_a_start_of_the_daemon() {
    let services = [service("api", exec_identity(), vec![http_probe()], policy())];
    let mut lab = Lab::of(false, &services);
    let stop = Some(lab.order(CommandKind::Stop));
    let until = Some(lab.now.plus(MINUTE));
    let pause = Some(Order { until, ..lab.order(CommandKind::Pause) });
    lab.command(OperatorCommand::Remembered(Orders { stop, pause }));
    assert!(lab.engine.is_kept_stopped(API));
    for _ in 0..4 {
        lab.refuse();
    }
    assert_eq!((lab.state(), lab.incidents(), lab.kept()), (ServiceState::Stopped, vec![], None));
    lab.wait(MINUTE);
    let orders = lab.engine.view().next().unwrap().orders;
    assert!(orders.stop.is_some() && orders.pause.is_none(), "the pause is over");
}

#[test]
fn what_has_no_method_for_a_command_is_left_alone() {
    let mut lab = Lab::new(Identity::Remote, vec![http_probe()], policy());
    lab.stop();
    lab.start();
    lab.restart();
    assert_eq!((lab.requested.len(), lab.state()), (0, ServiceState::Healthy));
}

#[test]
fn dependents_of_a_stopped_service_are_held_and_not_restarted() {
    const DB: ServiceId = ServiceId(1);
    let mut services = [
        service("api", exec_identity(), vec![http_probe()], policy()),
        service("db", exec_identity(), vec![http_probe()], policy()),
    ];
    services[0].depends_on = vec![DB];
    let mut lab = Lab::of(false, &services);
    for (id, pid) in [(API, 100), (DB, 200)] {
        lab.see(Observation::Running(id, process(pid)));
        lab.answer_of(id, ProbeOutcome::Ok);
    }
    lab.wait(MINUTE);
    let order = lab.order(CommandKind::Stop);
    lab.see(Observation::Operator(DB, OperatorCommand::Stop(order)));
    lab.now = lab.now.plus(Duration::from_millis(1));
    let ended = exit(200, lab.now, KILL, Some(bash()));
    lab.see(Observation::Exit(ended, Membership { service: DB, main: true }, EventId(900)));
    for _ in 0..4 {
        lab.refuse();
    }
    assert_eq!(lab.incidents().first().map(|it| it.1), Some(Verdict::DependencyDown));
    assert_eq!(lab.restarts_asked(), 0);
}

#[test]
fn a_window_of_maintenance_is_a_pause_that_its_end_or_an_operator_ends() {
    for by_hand in [true, false] {
        let mut lab = Lab::exec();
        lab.command(OperatorCommand::Maintenance(Some("daily 03:00-03:15".into())));
        lab.killed(100);
        lab.wait(MINUTE);
        assert_eq!((lab.restarts_asked(), lab.alerts(), lab.suppressed()), (0, vec![], 1));
        assert_eq!(lab.holds(), ["maintenance daily 03:00-03:15"]);
        if by_hand {
            lab.resume();
        } else {
            lab.command(OperatorCommand::Maintenance(None));
        }
        assert_eq!((lab.restarts_asked(), lab.alerts().len()), (1, 1), "by hand: {by_hand}");
    }
}

#[test]
fn an_operator_s_pause_goes_on_after_a_window_of_maintenance() {
    let mut lab = Lab::exec();
    lab.command(OperatorCommand::Maintenance(Some("daily 03:00-03:15".into())));
    lab.pause(Some(10 * MINUTE));
    lab.killed(100);
    lab.command(OperatorCommand::Maintenance(None));
    assert_eq!(lab.restarts_asked(), 0);
    lab.wait(10 * MINUTE);
    assert_eq!(lab.restarts_asked(), 1);
}
