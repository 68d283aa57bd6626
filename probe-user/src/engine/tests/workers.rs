//! Workers, and ports and connections that other processes hold.

use super::*;
use crate::{
    config::Response,
    fact::{Holder, PortHolder},
};

fn worker_dies(lab: &mut Lab, pid: u32, status: ExitStatus, sender: Option<Sender>, by: Option<ServiceId>) {
    lab.now = lab.now.plus(Duration::from_millis(1));
    let exit = ProcessExit { sender_service: by, ..exit(pid, lab.now, status, sender) };
    lab.see(Observation::Exit(exit, Membership { service: API, main: false }, EventId(910)));
}

fn with(policy_of_workers: Response) -> Lab {
    let mut service = service("api", exec_identity(), vec![http_probe()], policy());
    service.policy.worker_died = policy_of_workers;
    let mut lab = Lab::of(false, &[service]);
    lab.see(Observation::Running(API, process(100)));
    lab.answer(ProbeOutcome::Ok);
    lab.wait(LATER);
    lab
}

#[test]
fn a_crashed_worker_alerts_at_once_and_its_master_replaces_it() {
    let mut lab = with(Response::Alert);
    worker_dies(&mut lab, 105, SEGV, Some(Sender::Kernel), None);
    assert_eq!(lab.incidents(), [], "its main process may die with it");
    lab.wait(Duration::from_millis(60));
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::WorkerDied, Severity::Warning)]);
    assert_eq!(lab.alerts(), [(Verdict::WorkerDied, Severity::Warning, false)]);
    assert_eq!(lab.state(), ServiceState::Degraded);
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.state(), ServiceState::Healthy);
    assert_eq!(lab.restarts_asked(), 0);
}

#[test]
fn a_killed_worker_that_its_master_replaces_is_informational() {
    let mut lab = with(Response::Alert);
    worker_dies(&mut lab, 105, KILL, Some(bash()), None);
    lab.wait(Duration::from_millis(60));
    lab.answer(ProbeOutcome::Ok);
    let quiet = [(Verdict::WorkerDied, Severity::Info, false), (Verdict::WorkerDied, Severity::Info, true)];
    assert_eq!(lab.alerts(), quiet);
}

#[test]
fn a_kill_by_an_unknown_sender_may_come_from_the_master() {
    for policy in [Response::Alert, Response::Restart] {
        let mut lab = with(policy);
        worker_dies(&mut lab, 105, KILL, None, None);
        lab.wait(Duration::from_millis(60));
        lab.answer(ProbeOutcome::Ok);
        assert_eq!(lab.restarts_asked(), 0);
        assert!(lab.alerts().iter().all(|(_, severity, _)| *severity == Severity::Info));
    }
    // A fault signal is the worker's own, also without a known sender.
    let mut lab = with(Response::Restart);
    worker_dies(&mut lab, 105, SEGV, None, None);
    lab.wait(Duration::from_millis(60));
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn workers_that_end_as_they_should_are_no_incident() {
    let mut lab = with(Response::Alert);
    worker_dies(&mut lab, 105, ExitStatus::Code(1), None, None);
    worker_dies(&mut lab, 106, ExitStatus::Signal { number: 15, core_dumped: false }, Some(bash()), None);
    worker_dies(&mut lab, 107, KILL, Some(bash()), Some(API));
    lab.wait(LATER);
    assert_eq!(lab.incidents(), []);
    let mut lab = with(Response::Ignore);
    worker_dies(&mut lab, 105, SEGV, Some(Sender::Kernel), None);
    lab.wait(LATER);
    assert_eq!(lab.incidents(), []);
}

#[test]
fn a_worker_that_dies_with_its_main_process_is_part_of_that_death() {
    let mut lab = with(Response::Alert);
    worker_dies(&mut lab, 105, KILL, Some(bash()), None);
    lab.killed(100);
    lab.comes_back(101);
    lab.wait(LATER);
    assert!(lab.incidents().iter().all(|(_, verdict, _)| *verdict == Verdict::Killed));
}

#[test]
fn by_policy_a_dead_worker_restarts_its_service() {
    let mut lab = with(Response::Restart);
    worker_dies(&mut lab, 105, SEGV, Some(Sender::Kernel), None);
    lab.wait(Duration::from_millis(60));
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn repeated_worker_deaths_alert_as_soon_as_the_first() {
    let mut lab = with(Response::Alert);
    for pid in 200..210 {
        worker_dies(&mut lab, pid, SEGV, Some(Sender::Kernel), None);
        lab.wait(Duration::from_millis(15));
    }
    assert_eq!(lab.incidents()[0], (Phase::Open, Verdict::WorkerDied, Severity::Warning));
    lab.wait(Duration::from_millis(60));
    let incident = lab.engine.view().next().unwrap().incident.unwrap();
    assert!(incident.summary.starts_with("10 workers died"), "{}", incident.summary);
}

#[test]
fn repeated_worker_deaths_are_published_less_and_less_often() {
    let mut lab = with(Response::Alert);
    for pid in 200..232 {
        worker_dies(&mut lab, pid, SEGV, Some(Sender::Kernel), None);
        lab.wait(Duration::from_millis(60));
    }
    assert_eq!(lab.incidents().len(), 6, "1, 2, 4, 8, 16, 32");
    let incident = lab.engine.view().next().unwrap().incident.unwrap();
    assert!(incident.summary.starts_with("32 workers died"), "{}", incident.summary);
}

#[test]
fn repeated_worker_crashes_of_an_answering_service_are_one_incident() {
    let mut lab = with(Response::Alert);
    for pid in 200..232 {
        worker_dies(&mut lab, pid, SEGV, Some(Sender::Kernel), None);
        lab.wait(Duration::from_millis(100));
        lab.answer(ProbeOutcome::Ok);
    }
    let opened = |lab: &Lab| lab.incidents().iter().filter(|(phase, ..)| *phase == Phase::Open).count();
    assert_eq!(opened(&lab), 2, "the first might have been the only one");
    assert_eq!(lab.state(), ServiceState::Degraded);
    lab.wait(Duration::from_secs(29));
    assert_eq!(lab.state(), ServiceState::Degraded);
    lab.wait(Duration::from_secs(2));
    assert_eq!(lab.state(), ServiceState::Healthy);
    assert_eq!(lab.alerts().len(), 4, "each alerts, and each resolves");
}

#[test]
fn a_worker_that_aborts_has_crashed() {
    let abort = ExitStatus::Signal { number: 6, core_dumped: false };
    let mut lab = with(Response::Alert);
    worker_dies(&mut lab, 105, abort, Some(Sender::Itself), Some(API));
    lab.wait(Duration::from_millis(60));
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::WorkerDied, Severity::Warning)]);
}

fn incident_is_open(lab: &Lab) -> bool {
    lab.engine.view().next().unwrap().incident.is_some()
}

#[test]
fn a_port_held_by_another_process_is_named_and_waited_for() {
    let mut lab = Lab::exec();
    lab.die(100, ExitStatus::Code(1), None);
    assert!(lab.requested.iter().any(|effect| matches!(effect, Effect::FindPortHolder { .. })));
    let holder = PortHolder { port: 8080, pid: 7, name: "nginx".into(), unit: None, service: None };
    lab.see(Observation::PortHolder(API, Some(holder)));
    let incident = lab.engine.view().next().unwrap().incident.unwrap();
    assert_eq!(incident.verdict, Verdict::Exited);
    assert!(incident.summary.ends_with("port 8080 is held by nginx (pid 7)"), "{}", incident.summary);
    assert_eq!(lab.restarts_asked(), 0, "at once it would only fail again");
    lab.wait(Duration::from_secs(1));
    assert_eq!(lab.restarts_asked(), 1);
    lab.comes_back(101);
    assert!(incident_is_open(&lab), "it is the other one that answers there");
    lab.see(probes::listener(&lab, true));
    lab.answer(ProbeOutcome::Ok);
    assert!(!incident_is_open(&lab));
}

#[test]
fn exhausted_connections_name_their_holders_and_do_not_restart_the_database() {
    let mut database = service("db", exec_identity(), vec![http_probe()], policy());
    database.policy.pool_exhausted = Response::Restart;
    let shop = service("shop", exec_identity(), vec![], policy());
    let mut lab = Lab::of(false, &[database, shop]);
    let shop = ServiceId(1);
    lab.see(Observation::Running(API, process(100)));
    lab.see(Observation::Running(shop, process(200)));
    lab.answer(ProbeOutcome::Ok);
    lab.wait(LATER);
    lab.requested.clear();
    for _ in 0..3 {
        lab.answer(ProbeOutcome::Failed(ProbeFailure::TooManyConnections, "too many clients".into()));
    }
    assert_eq!(lab.incidents()[0].1, Verdict::PoolExhausted);
    assert!(lab.requested.iter().any(|effect| matches!(effect, Effect::FindHolders { .. })));
    let holder = Holder {
        user: Some("app".into()),
        process: Some((200, "shop".into())),
        service: Some(shop),
        connections: 37,
        ..Holder::default()
    };
    lab.see(Observation::Holders(API, vec![holder]));
    let incident = lab.engine.view().next().unwrap().incident.unwrap();
    assert!(
        incident.summary.ends_with("37 by service shop, shop (pid 200), user app"),
        "{}",
        incident.summary
    );
    let restarted: Vec<_> =
        lab.restarts().iter().filter(|it| it.action == Action::Request).map(|it| it.service).collect();
    assert_eq!(restarted, [shop]);
    let alerts: Vec<_> = lab.alerts();
    assert_eq!(alerts.len(), 1, "one alert for one cause: {alerts:?}");
}

#[test]
fn a_full_store_alerts_and_is_not_restarted() {
    let mut lab = Lab::exec();
    lab.wait(LATER);
    for _ in 0..3 {
        lab.answer(ProbeOutcome::Failed(ProbeFailure::MemoryFull, "used 100 of 100 MiB".into()));
    }
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::MemoryFull, Severity::Critical)]);
    assert_eq!(lab.alerts(), [(Verdict::MemoryFull, Severity::Critical, false)]);
    assert_eq!((lab.restarts_asked(), lab.state()), (0, ServiceState::Degraded));
}

#[test]
fn a_full_store_is_restarted_or_ignored_by_policy() {
    for (response, restarts, incidents) in [(Response::Restart, 1, 1), (Response::Ignore, 0, 0)] {
        let mut store = service("store", exec_identity(), vec![http_probe()], policy());
        store.policy.memory_full = response;
        store.policy.pool_exhausted = response;
        let mut lab = Lab::of(false, &[store]);
        lab.see(Observation::Running(API, process(100)));
        lab.answer(ProbeOutcome::Ok);
        lab.wait(LATER);
        for _ in 0..3 {
            lab.answer(ProbeOutcome::Failed(ProbeFailure::MemoryFull, "used 100 of 100 MiB".into()));
        }
        assert_eq!((lab.restarts_asked(), lab.incidents().len()), (restarts, incidents), "{response:?}");
    }
}
