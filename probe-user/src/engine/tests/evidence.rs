//! How many failures count, by what is known of the process; failures that nothing is done about.

use super::{
    hangs::{grown_up, idle, queue, stuck, timeout},
    unit_states::down,
    units::waiting_unit,
    *,
};
use crate::fact::CrashSite;

/// A pool whose workers all serve a client, while probes wait to be accepted.
fn busy() -> Examination {
    Examination { served: 2, abandoned: 1, clients_before: Some(0), clients: Some(0), ..idle(1) }
}

/// The longest that an alert waits for the context of a fault.
const CONTEXT_PATIENCE: Duration = Duration::from_millis(500);

/// The number of timeouts, one after another, until a service with such examinations is hung.
fn timeouts_until_hung(seen: &Examination) -> u32 {
    let mut lab = grown_up();
    for timeouts in 1..=20 {
        lab.answer(timeout());
        lab.see(Observation::Examined(API, Some(seen.clone())));
        if !lab.incidents().is_empty() {
            assert_eq!(lab.incidents()[0].1, Verdict::Hung);
            return timeouts;
        }
    }
    panic!("it is never hung")
}

#[test]
fn the_configured_failures_are_needed_unless_the_process_is_stuck() {
    let asleep = |change: fn(&mut Examination)| {
        let mut seen = stuck(3);
        change(&mut seen);
        timeouts_until_hung(&seen)
    };
    assert_eq!(asleep(|seen| seen.locked = false), 3, "a disk, a server or a timer may wake it");
    assert_eq!(asleep(|seen| seen.abandoned = 0), 3, "it may have nothing to do");
    assert_eq!(asleep(|seen| seen.switches = 1), 3, "it does something");
    assert_eq!(asleep(|seen| seen.clients = Some(0)), 2, "only probes wait");
    assert_eq!(asleep(|seen| seen.clients = None), 2, "nothing is known of its clients");
    assert_eq!(timeouts_until_hung(&idle(3)), 3, "the connections that wait are the probes' own");
}

#[test]
fn a_pool_whose_workers_all_serve_clients_gets_twice_the_failures() {
    assert_eq!(timeouts_until_hung(&busy()), 6);
    assert_eq!(timeouts_until_hung(&Examination { served: 0, ..busy() }), 3);
}

#[test]
fn packets_that_are_dropped_on_the_way_are_a_network_fault() {
    let unconnected = |lab: &mut Lab, seen: Examination| {
        for _ in 0..3 {
            lab.answer(ProbeOutcome::Failed(ProbeFailure::ConnectTimeout, "no connection".into()));
            lab.see(Observation::Examined(API, Some(seen.clone())));
        }
    };
    let mut lab = grown_up();
    unconnected(&mut lab, idle(0));
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Network, Severity::Critical)]);
    assert_eq!(lab.alerts(), [(Verdict::Network, Severity::Critical, false)]);
    lab.see(snapshot());
    assert_eq!(lab.restarts_asked(), 0);
    assert!(matches!(&lab.restarts()[0].action, Action::Hold(why) if why.contains("does not open the way")));

    let full = Examination { queue_before: queue(129), ..idle(129) };
    let unknown = AcceptQueue { backlog: u32::MAX, ..queue(5).unwrap() };
    let unknown = Examination { queue_before: Some(unknown), queue: Some(unknown), ..idle(0) };
    let no_listener = Examination { queue_before: None, queue: None, ..idle(0) };
    for seen in [full, unknown, no_listener] {
        let mut lab = grown_up();
        unconnected(&mut lab, seen.clone());
        assert_eq!(lab.incidents()[0].1, Verdict::Hung, "{seen:?}");
    }
}

#[test]
fn a_failure_that_nothing_is_done_about_alerts_at_once() {
    let observed = RestartPolicy::default();
    for (identity, restart) in [(Identity::Remote, policy()), (exec_identity(), observed)] {
        for failure in [ProbeFailure::Status, ProbeFailure::Timeout, ProbeFailure::Refused] {
            let mut lab = Lab::new(identity.clone(), vec![http_probe()], restart.clone());
            lab.wait(LATER);
            for _ in 0..3 {
                lab.answer(ProbeOutcome::Failed(failure, "as it says".into()));
                lab.see(Observation::Examined(API, Some(at_work())));
            }
            lab.wait(CONTEXT_PATIENCE);
            assert_eq!(lab.alerts().len(), 1, "{failure:?}");
        }
    }
}

/// The main process is killed, and the unit is then in this state. Returns the alerts before anything else happens.
fn alerts_of_a_death(identity: Identity, restart: RestartPolicy, state: Option<UnitState>) -> usize {
    let mut lab = Lab::new(identity, vec![http_probe()], restart);
    lab.wait(LATER);
    lab.killed(100);
    if let Some(state) = state {
        lab.see(Observation::Unit(API, state));
    }
    assert_eq!(lab.incidents()[0].1, Verdict::Killed);
    lab.wait(CONTEXT_PATIENCE);
    lab.alerts().len()
}

#[test]
fn an_alert_waits_a_moment_for_what_explains_the_fault() {
    let unit = || Identity::Unit("api.service".into());
    let died = |identity| {
        let mut lab = Lab::new(identity, vec![http_probe()], RestartPolicy::default());
        lab.wait(LATER);
        lab.killed(100);
        lab
    };
    let asks =
        |lab: &Lab| lab.requested.iter().any(|it| matches!(it, Effect::GatherContext { service: API, .. }));
    let mut lab = died(exec_identity());
    assert!(asks(&lab));
    assert_eq!(lab.alerts().len(), 0);
    let logs = vec!["reading config".to_owned(), "out of cheese".to_owned()];
    let context =
        FaultContext { logs, changes: vec!["its program was changed".to_owned()], ..Default::default() };
    lab.see(Observation::Context(API, context.clone()));
    assert_eq!(lab.alerts().len(), 1, "it came");
    assert_eq!(lab.engine.incident(API).unwrap().context, context);
    lab.see(Observation::Context(API, context));
    lab.wait(LATER);
    assert_eq!(lab.alerts().len(), 1);

    let mut lab = died(exec_identity());
    lab.see(Observation::Context(API, FaultContext::default()));
    assert_eq!(lab.alerts().len(), 1, "there is none");

    let mut lab = Lab::new(unit(), vec![http_probe()], policy());
    lab.wait(LATER);
    lab.killed(100);
    lab.see(Observation::Context(API, FaultContext::default()));
    assert_eq!(lab.alerts().len(), 0, "a restart may mend it");

    let mut lab = Lab::new(Identity::Remote, vec![http_probe()], policy());
    lab.wait(LATER);
    (0..3).for_each(|_| lab.answer(ProbeOutcome::Failed(ProbeFailure::Refused, "refused".into())));
    assert!(!asks(&lab), "it is elsewhere");
}

#[test]
fn a_later_look_that_finds_less_takes_nothing_away_from_what_explains_the_fault() {
    let mut lab = Lab::exec();
    lab.wait(LATER);
    lab.die(100, SEGV, None);
    let first = FaultContext {
        logs: vec!["out of cheese".to_owned()],
        changes: vec!["its program was changed".to_owned()],
        changed_at: vec![1],
        crash: Some(Box::new(CrashSite::example())),
        ..FaultContext::default()
    };
    lab.see(Observation::Context(API, first.clone()));
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Running(API, process(101)));
    lab.die(101, SEGV, None);
    let changes = FaultContext {
        changes: vec!["its configuration was changed".to_owned()],
        changed_at: vec![2],
        ..FaultContext::default()
    };
    lab.see(Observation::Context(API, changes.clone()));
    let known = FaultContext { logs: first.logs, crash: first.crash, ..changes };
    assert_eq!(lab.engine.incident(API).unwrap().context, known);
    let logs = FaultContext { logs: vec!["out of wine".to_owned()], ..FaultContext::default() };
    lab.see(Observation::Context(API, logs.clone()));
    assert_eq!(lab.engine.incident(API).unwrap().context, FaultContext { logs: logs.logs, ..known });
}

#[test]
fn a_death_alerts_at_once_where_neither_hostprobe_nor_systemd_restarts() {
    let unit = || Identity::Unit("api.service".into());
    let failed = || Some(down("failed", "signal", 100, at(1060), 500));
    let waits = || Some(waiting_unit(100, at(1060), Duration::from_secs(10)));
    let off = RestartPolicy::default;
    assert_eq!(alerts_of_a_death(exec_identity(), off(), None), 1);
    assert_eq!(alerts_of_a_death(exec_identity(), policy(), None), 0);
    assert_eq!(alerts_of_a_death(unit(), off(), failed()), 1);
    assert_eq!(alerts_of_a_death(unit(), policy(), failed()), 0);
    assert_eq!(alerts_of_a_death(unit(), off(), waits()), 0, "systemd restarts it");
    let matched = Identity::Match(config::Matcher { port: Some(8080), ..config::Matcher::default() });
    assert_eq!(alerts_of_a_death(matched, off(), None), 0, "its own supervisor may restart it");
}

#[test]
fn a_failure_that_a_restart_cannot_mend_alerts_at_once() {
    let held = [
        ProbeFailure::Auth,
        ProbeFailure::Rejected,
        ProbeFailure::Busy,
        ProbeFailure::Upstream,
        ProbeFailure::Tls,
        ProbeFailure::Dns,
        ProbeFailure::AccountLimit,
        ProbeFailure::CannotAsk,
        ProbeFailure::Storage,
        ProbeFailure::Replication,
        ProbeFailure::Persistence,
        ProbeFailure::Cluster,
        ProbeFailure::Role,
        ProbeFailure::Wraparound,
    ];
    for failure in held {
        let mut lab = grown_up();
        for _ in 0..3 {
            lab.answer(ProbeOutcome::Failed(failure, "as it says".into()));
        }
        lab.wait(CONTEXT_PATIENCE);
        assert_eq!((lab.alerts().len(), lab.restarts_asked()), (1, 0), "{failure:?}");
    }
}
