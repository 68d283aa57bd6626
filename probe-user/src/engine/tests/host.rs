//! The host's own incidents, and what they mean for services.

use super::*;
use crate::fact::{HostCheck, HostReading, HostSubject, Memory, OperatorCommand, Writes};

const DEVICE: &str = "254:16";

fn reading(check: HostCheck, value: f64, now: Timestamp) -> HostReading {
    let is_of_file_system = matches!(check, HostCheck::Space | HostCheck::Inodes | HostCheck::ReadOnly);
    let target = if is_of_file_system { "/data" } else { "" };
    HostReading {
        at: now,
        subject: HostSubject { check, target: target.to_owned() },
        source: Source::Proc,
        value,
        limit: 90.0,
        time_left: None,
        exhausted: value >= 99.0,
        root_has_room: false,
        device: is_of_file_system.then(|| DEVICE.to_owned()),
        words: format!("{target} is {value:.0} % full"),
        fault: None,
    }
}

fn see(lab: &mut Lab, check: HostCheck, value: f64) {
    let reading = reading(check, value, lab.now);
    lab.see(Observation::Host(reading));
}

fn writes_to(devices: &[&str], as_root: bool) -> Observation {
    let devices = devices.iter().map(|&device| device.to_owned()).collect();
    Observation::WritesTo(API, Writes { devices, as_root })
}

/// The host's incidents: phase, verdict and severity.
fn of_host(lab: &Lab) -> Vec<(Phase, Verdict, Severity)> {
    let of = |fact: &Fact| {
        let Fact::Incident(phase, it) = fact else { return None };
        (it.service == ServiceId::HOST).then_some((*phase, it.verdict, it.severity))
    };
    lab.published.iter().filter_map(of).collect()
}

/// The published changes of the host's state: the check, and whether it is well.
fn states(lab: &Lab) -> Vec<(HostCheck, bool)> {
    let of = |fact: &Fact| {
        let Fact::HostState(state) = fact else { return None };
        Some((state.reading.subject.check, state.is_well))
    };
    lab.published.iter().filter_map(of).collect()
}

/// What was kept last of the host's incidents.
fn kept_of_host(lab: &Lab) -> Option<Box<Memory>> {
    lab.requested.iter().rev().find_map(|effect| {
        let Effect::KeepMemory { service: ServiceId::HOST, memory } = effect else { return None };
        Some(memory.clone())
    })
}

fn exec_lab() -> Lab {
    let mut lab = Lab::new(exec_identity(), vec![], policy());
    lab.wait(LATER);
    lab.published.clear();
    lab.requested.clear();
    lab
}

fn crash(lab: &mut Lab, pid: u32) {
    lab.die(pid, SEGV, None);
}

fn holds(lab: &Lab) -> Vec<String> {
    let of = |restart: &Restart| {
        let Action::Hold(why) = &restart.action else { return None };
        Some(why.clone())
    };
    lab.restarts().into_iter().filter_map(of).collect()
}

#[test]
fn a_value_has_to_stay_at_its_limit_and_clearly_below_it_again() {
    let mut lab = exec_lab();
    for _ in 0..2 {
        see(&mut lab, HostCheck::Space, 91.0);
        lab.wait(Duration::from_secs(10));
        assert_eq!(of_host(&lab), []);
    }
    see(&mut lab, HostCheck::Space, 91.0);
    let open = (Phase::Open, Verdict::HostDiskFull, Severity::Warning);
    assert_eq!((of_host(&lab), states(&lab)), (vec![open], vec![(HostCheck::Space, false)]));
    assert_eq!(lab.alerts(), [(Verdict::HostDiskFull, Severity::Warning, false)]);
    lab.wait(Duration::from_secs(10));
    see(&mut lab, HostCheck::Space, 88.0);
    assert_eq!(of_host(&lab), [open], "it may come back");
    lab.wait(Duration::from_secs(10));
    see(&mut lab, HostCheck::Space, 80.0);
    assert_eq!(of_host(&lab)[1..], [(Phase::Resolve, Verdict::HostDiskFull, Severity::Warning)]);
    assert_eq!(states(&lab), [(HostCheck::Space, false), (HostCheck::Space, true)]);
    assert_eq!(lab.alerts().len(), 2);
}

#[test]
fn a_short_peak_is_no_incident() {
    let mut lab = exec_lab();
    see(&mut lab, HostCheck::Memory, 96.0);
    lab.wait(Duration::from_secs(10));
    see(&mut lab, HostCheck::Memory, 70.0);
    lab.wait(Duration::from_secs(10));
    see(&mut lab, HostCheck::Memory, 96.0);
    lab.wait(Duration::from_secs(50));
    assert_eq!(of_host(&lab), []);
}

#[test]
fn what_is_exhausted_is_an_incident_at_once_and_becomes_critical() {
    let mut lab = exec_lab();
    see(&mut lab, HostCheck::Pids, 99.5);
    assert_eq!(of_host(&lab), [(Phase::Open, Verdict::HostPids, Severity::Critical)]);
    let mut lab = exec_lab();
    for _ in 0..3 {
        see(&mut lab, HostCheck::Conntrack, 95.0);
        lab.wait(Duration::from_secs(10));
    }
    see(&mut lab, HostCheck::Conntrack, 100.0);
    let severities: Vec<Severity> = of_host(&lab).into_iter().map(|it| it.2).collect();
    assert_eq!(severities, [Severity::Warning, Severity::Critical]);
    assert_eq!(lab.alerts().len(), 2, "the second alert is of the higher severity");
}

#[test]
fn what_is_no_longer_heard_of_is_over() {
    let mut lab = exec_lab();
    see(&mut lab, HostCheck::Space, 99.0);
    see(&mut lab, HostCheck::BlockErrors, 1.0);
    lab.published.clear();
    let mut report = reading(HostCheck::BlockErrors, 1.0, lab.now);
    report.limit = 1.0;
    lab.see(Observation::Host(report.clone()));
    lab.wait(Duration::from_secs(181));
    assert!(of_host(&lab).contains(&(Phase::Resolve, Verdict::HostDiskFull, Severity::Critical)));
    let is_over =
        |lab: &Lab| of_host(lab).iter().any(|it| it.0 == Phase::Resolve && it.1 == Verdict::HostBlockErrors);
    assert!(!is_over(&lab), "it is an event, and lasts for ten minutes");
    lab.see(Observation::Host(report));
    lab.wait(Duration::from_secs(599));
    assert!(!is_over(&lab));
    lab.wait(Duration::from_secs(2));
    assert!(is_over(&lab));
}

#[test]
fn a_service_that_writes_to_a_full_disk_is_held_until_there_is_room() {
    let mut lab = exec_lab();
    lab.see(writes_to(&["8:1", DEVICE], false));
    see(&mut lab, HostCheck::Space, 99.5);
    crash(&mut lab, 100);
    assert_eq!(lab.restarts_asked(), 0);
    let held = holds(&lab);
    assert_eq!(held.len(), 1);
    assert!(held[0].contains("it writes to /data, which takes no more data"), "{}", held[0]);
    let incident = lab.engine.incident(API).unwrap();
    assert_eq!((incident.verdict, incident.cause), (Verdict::Crashed, ServiceId::HOST));
    assert!(incident.summary.contains("/data is 100 % full"), "{}", incident.summary);
    let host = lab.engine.host_incidents().next().unwrap();
    assert_eq!(host.held, [API]);
    for _ in 0..60 {
        lab.wait(Duration::from_secs(60));
        see(&mut lab, HostCheck::Space, 99.5);
    }
    assert_eq!((lab.restarts_asked(), holds(&lab).len()), (0, 1), "for an hour");
    see(&mut lab, HostCheck::Space, 50.0);
    assert_eq!(lab.restarts_asked(), 1, "there is room again");
    assert_eq!(lab.engine.host_incidents().count(), 0);
}

#[test]
fn a_disk_on_which_only_root_can_write_holds_the_services_of_other_users() {
    for (as_root, root_has_room, restarts) in [(true, true, 1), (false, true, 0), (true, false, 0)] {
        let mut lab = exec_lab();
        lab.see(writes_to(&[DEVICE], as_root));
        let full = HostReading { root_has_room, ..reading(HostCheck::Space, 100.0, lab.now) };
        lab.see(Observation::Host(full));
        crash(&mut lab, 100);
        assert_eq!(lab.restarts_asked(), restarts, "{as_root} {root_has_room}");
        let says_so = holds(&lab).iter().any(|why| why.contains("no more data of other users than root"));
        assert_eq!(says_so, !as_root, "{:?}", holds(&lab));
    }
}

#[test]
fn a_service_of_root_that_is_held_is_started_when_root_has_room_again() {
    let mut lab = exec_lab();
    lab.see(writes_to(&[DEVICE], true));
    see(&mut lab, HostCheck::Space, 100.0);
    crash(&mut lab, 100);
    assert_eq!(lab.restarts_asked(), 0);
    let room = HostReading { root_has_room: true, ..reading(HostCheck::Space, 100.0, lab.now) };
    lab.see(Observation::Host(room));
    assert_eq!(lab.restarts_asked(), 1);
    assert_eq!(lab.engine.host_incidents().count(), 1, "the disk is still full for the others");
}

#[test]
fn a_full_disk_that_a_service_does_not_write_to_holds_nothing() {
    let mut lab = exec_lab();
    lab.see(writes_to(&["8:1"], false));
    see(&mut lab, HostCheck::Space, 100.0);
    crash(&mut lab, 100);
    assert_eq!(lab.restarts_asked(), 1);
    assert_eq!(lab.engine.incident(API).unwrap().cause, API);
}

#[test]
fn a_disk_that_is_only_near_its_limit_holds_nothing() {
    let mut lab = exec_lab();
    lab.see(writes_to(&[DEVICE], false));
    for _ in 0..4 {
        see(&mut lab, HostCheck::Space, 95.0);
        lab.wait(Duration::from_secs(10));
    }
    crash(&mut lab, 100);
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn a_disk_that_turns_out_to_be_full_stops_a_restart_loop() {
    let mut lab = exec_lab();
    lab.see(writes_to(&[DEVICE], false));
    crash(&mut lab, 100);
    assert_eq!(lab.restarts_asked(), 1);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Running(API, process(101)));
    crash(&mut lab, 101);
    // The second restart waits for its back-off, and the disk is found full meanwhile.
    see(&mut lab, HostCheck::Space, 100.0);
    lab.wait(LATER);
    assert_eq!(lab.restarts_asked(), 1);
    assert_eq!(lab.engine.incident(API).unwrap().cause, ServiceId::HOST);
}

#[test]
fn a_service_that_was_killed_on_purpose_is_held_without_blame() {
    let mut lab = exec_lab();
    lab.see(writes_to(&[DEVICE], false));
    see(&mut lab, HostCheck::ReadOnly, 100.0);
    lab.killed(100);
    let incident = lab.engine.incident(API).unwrap();
    assert_eq!((incident.verdict, incident.cause, lab.restarts_asked()), (Verdict::Killed, API, 0));
}

#[test]
fn without_a_free_process_nothing_is_started_and_an_operators_order_is_carried_out() {
    let mut lab = exec_lab();
    see(&mut lab, HostCheck::Pids, 100.0);
    crash(&mut lab, 100);
    assert_eq!(lab.restarts_asked(), 0);
    assert!(holds(&lab)[0].contains("the host can start no further process"), "{:?}", holds(&lab));
    lab.see(Observation::Operator(API, OperatorCommand::Restart(order(CommandKind::Restart, lab.now))));
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn timeouts_while_packets_are_dropped_are_the_networks() {
    let mut lab = Lab::new(exec_identity(), vec![http_probe()], policy());
    lab.wait(LATER);
    see(&mut lab, HostCheck::Conntrack, 100.0);
    lab.requested.clear();
    for _ in 0..3 {
        lab.answer(ProbeOutcome::Failed(ProbeFailure::ConnectTimeout, "no connection within 5s".into()));
        lab.see(Observation::Examined(API, Some(at_work())));
    }
    let incident = lab.engine.incident(API).expect("an incident");
    assert_eq!((incident.verdict, lab.restarts_asked()), (Verdict::Network, 0), "{}", incident.summary);
}

#[test]
fn an_incident_of_the_host_goes_on_in_the_next_run_and_ends_if_it_is_not_confirmed() {
    let mut lab = exec_lab();
    see(&mut lab, HostCheck::Space, 99.0);
    see(&mut lab, HostCheck::Memory, 99.0);
    let kept = kept_of_host(&lab);
    let mut next = Lab::of(false, &[]);
    next.see(Observation::Remembered(ServiceId::HOST, kept.unwrap()));
    assert_eq!(next.engine.host_incidents().count(), 2);
    next.wait(Duration::from_secs(60));
    see(&mut next, HostCheck::Space, 99.0);
    assert!(!of_host(&next).iter().any(|it| it.0 == Phase::Open), "it is the same one");
    next.wait(Duration::from_secs(121));
    let open: Vec<_> = next.engine.host_incidents().map(|it| it.verdict).collect();
    assert_eq!(open, [Verdict::HostDiskFull], "nothing was heard of the other");
    see(&mut next, HostCheck::Space, 10.0);
    assert_eq!(kept_of_host(&next).map(|memory| memory.incident.is_none()), Some(true));
}

#[test]
fn names_from_outside_do_not_add_up_without_bound() {
    let mut lab = exec_lab();
    for number in 0..1000 {
        let mut report = reading(HostCheck::HungTask, 1.0, lab.now);
        report.limit = 1.0;
        report.subject.target = format!("task-{number}");
        lab.see(Observation::Host(report));
    }
    assert_eq!(lab.engine.host_incidents().count(), 256);
}
