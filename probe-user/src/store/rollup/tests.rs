//! The arithmetic of minutes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::*;
use crate::{
    clock::Timestamp,
    emit::tests::samples,
    engine::ServiceView,
    fact::{
        Action, CommandKind, Fact, Incident, Operator, Order, Orders, Phase, ProbeFailure, ProbeKind,
        ProbeOutcome, ProbeReport, Restart, RestartMethod, ServiceId, ServiceState, User,
    },
};

const API: ServiceId = ServiceId(0);
const SECOND: i64 = 1_000_000;

/// The wall clock begins at 100 minutes, with the time since boot.
const AHEAD: i128 = 6_000_000_000_000;

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_nanos(1_000_000_000_000 + (seconds * 1e9) as u64)
}

fn collector() -> Collector {
    Collector::new(at(0.0), AHEAD - 1_000_000_000_000)
}

fn view(state: ServiceState) -> ServiceView {
    ServiceView {
        main: None,
        growth: Vec::new(),
        service: API,
        state,
        response_time: None,
        error: None,
        incident: None,
        depends_on: Vec::new(),
        stale_since: None,
        orders: Orders::default(),
        maintenance: None,
        acknowledged: None,
    }
}

fn incident(since: Timestamp) -> Incident {
    let Fact::Incident(_, sample) = samples::incident() else { panic!("the sample is an incident") };
    Incident { service: API, since, drill: None, ..sample }
}

fn pause() -> Order {
    let by = Operator { user: User { id: 0, name: None }, login: None };
    Order { kind: CommandKind::Pause, by, reason: None, since: at(0.0), until: None }
}

fn enters(collector: &mut Collector, state: ServiceState, now: f64) {
    collector.on_fact(&Fact::ServiceState(API, state, ServiceState::Starting, String::new()), at(now));
}

/// A fault of that moment is found later.
fn fails(collector: &mut Collector, happened: f64, found: f64) {
    collector.on_fact(&Fact::Incident(Phase::Open, incident(at(happened))), at(found));
    enters(collector, ServiceState::Unhealthy, found);
}

fn heals(collector: &mut Collector, now: f64) {
    collector.on_fact(&Fact::Incident(Phase::Resolve, incident(at(now))), at(now));
    enters(collector, ServiceState::Healthy, now);
}

/// Every second from one moment to another, the daemon looks at its clocks.
fn ticks(collector: &mut Collector, from: f64, to: f64) {
    let mut now = from;
    while now <= to {
        collector.tick(at(now), AHEAD - 1_000_000_000_000);
        now += 1.0;
    }
}

/// The sums by minute, counted from the first.
fn minutes(collector: &mut Collector, now: f64) -> BTreeMap<i64, Totals> {
    collector.take(at(now)).map(|(_, start, totals)| (start / MINUTE - 100, totals)).collect()
}

/// The seconds in a class.
fn seconds(totals: &Totals, class: Class) -> f64 {
    totals.time(class) as f64 / SECOND as f64
}

fn whole(all: &BTreeMap<i64, Totals>) -> Totals {
    let mut sum = Totals::default();
    all.values().for_each(|totals| sum.add(totals));
    sum
}

#[test]
fn the_states_of_a_minute_share_it_and_an_outage_begins_with_its_fault() {
    let mut collector = collector();
    collector.on_view(&view(ServiceState::Healthy), at(0.0));
    ticks(&mut collector, 0.0, 19.0);
    fails(&mut collector, 19.5, 20.0);
    enters(&mut collector, ServiceState::Starting, 20.1);
    heals(&mut collector, 25.0);
    ticks(&mut collector, 25.0, 39.0);
    enters(&mut collector, ServiceState::Degraded, 40.0);
    ticks(&mut collector, 40.0, 60.0);
    let all = minutes(&mut collector, 60.0);
    assert_eq!(all.len(), 1);
    let of = |class| seconds(&all[&0], class);
    assert_eq!([of(Class::Healthy), of(Class::Down), of(Class::Degraded)], [34.5, 5.5, 20.0]);
    assert_eq!(all[&0].watched(), 60 * SECOND);
}

#[test]
fn what_a_drill_takes_is_apart_from_an_outage_and_so_is_a_pause_in_it() {
    let mut collector = collector();
    collector.on_view(&view(ServiceState::Healthy), at(0.0));
    let drilled = Incident { drill: Some("root".to_owned()), ..incident(at(10.0)) };
    collector.on_fact(&Fact::Incident(Phase::Open, drilled.clone()), at(10.5));
    enters(&mut collector, ServiceState::Unhealthy, 10.5);
    let paused = Orders { pause: Some(pause()), ..Orders::default() };
    let open = view(ServiceState::Unhealthy);
    collector
        .on_view(&ServiceView { incident: Some(drilled.clone()), orders: paused, ..open.clone() }, at(15.0));
    collector.on_view(&ServiceView { incident: Some(drilled), ..open }, at(20.0));
    heals(&mut collector, 25.0);
    fails(&mut collector, 40.0, 41.0);
    heals(&mut collector, 45.0);
    ticks(&mut collector, 45.0, 60.0);
    let all = minutes(&mut collector, 60.0);
    let of = |class| seconds(&all[&0], class);
    assert_eq!([of(Class::Drilled), of(Class::Paused), of(Class::Down)], [10.0, 5.0, 5.0]);
    assert_eq!(all[&0].watched(), 60 * SECOND);
}

#[test]
fn a_fault_that_is_found_later_takes_its_time_from_minutes_that_were_taken_already() {
    let mut collector = collector();
    collector.on_view(&view(ServiceState::Healthy), at(0.0));
    ticks(&mut collector, 0.0, 60.0);
    let mut all = minutes(&mut collector, 60.0);
    ticks(&mut collector, 60.0, 69.0);
    fails(&mut collector, 50.0, 70.0);
    ticks(&mut collector, 70.0, 120.0);
    for (minute, more) in minutes(&mut collector, 120.0) {
        all.entry(minute).or_default().add(&more);
    }
    assert_eq!((seconds(&all[&0], Class::Healthy), seconds(&all[&0], Class::Down)), (50.0, 10.0));
    assert_eq!((seconds(&all[&1], Class::Healthy), seconds(&all[&1], Class::Down)), (0.0, 60.0));
}

#[test]
fn a_fault_from_before_the_daemon_looked_counts_from_its_first_look() {
    let mut collector = collector();
    collector.on_view(&view(ServiceState::Starting), at(30.0));
    fails(&mut collector, 1.0, 40.0);
    let all = minutes(&mut collector, 50.0);
    assert_eq!(whole(&all), { Totals { times: [0, 0, 20 * SECOND, 0, 0, 0, 0, 0], ..Totals::default() } });
}

#[test]
fn a_worse_verdict_does_not_make_a_degraded_time_a_failure() {
    let mut collector = collector();
    collector.on_view(&view(ServiceState::Healthy), at(0.0));
    collector.on_fact(&Fact::Incident(Phase::Open, incident(at(9.0))), at(10.0));
    enters(&mut collector, ServiceState::Degraded, 10.0);
    ticks(&mut collector, 10.0, 40.0);
    collector.on_fact(&Fact::Incident(Phase::Update, incident(at(9.0))), at(40.0));
    enters(&mut collector, ServiceState::Unhealthy, 40.0);
    let sum = whole(&minutes(&mut collector, 60.0));
    let of = |class| seconds(&sum, class);
    assert_eq!([of(Class::Healthy), of(Class::Degraded), of(Class::Down)], [9.0, 31.0, 20.0]);
}

#[test]
fn orders_windows_and_blindness_are_counted_apart() {
    let mut collector = collector();
    let order = pause();
    let mut now = 0.0;
    let mut shows = |view: ServiceView| {
        collector.on_view(&view, at(now));
        now += 10.0;
    };
    let paused = || Orders { pause: Some(order.clone()), ..Orders::default() };
    shows(ServiceView { orders: paused(), ..view(ServiceState::Healthy) });
    shows(ServiceView { orders: paused(), ..view(ServiceState::Down) });
    shows(ServiceView { maintenance: Some("daily".to_owned()), ..view(ServiceState::Unhealthy) });
    shows(ServiceView { stale_since: Some(at(0.0)), ..view(ServiceState::Healthy) });
    shows(ServiceView { orders: paused(), ..view(ServiceState::Stopped) });
    shows(view(ServiceState::Starting));
    shows(ServiceView { incident: Some(incident(at(0.0))), ..view(ServiceState::Starting) });
    let sum = whole(&minutes(&mut collector, 70.0));
    let expected = [
        (Class::Paused, 20.0),
        (Class::Maintenance, 10.0),
        (Class::Unknown, 20.0),
        (Class::Stopped, 10.0),
        (Class::Down, 10.0),
        (Class::Healthy, 0.0),
    ];
    for (class, time) in expected {
        assert_eq!(seconds(&sum, class), time, "{class:?}");
    }
}

#[test]
fn time_in_which_the_daemon_did_not_run_counts_for_nothing() {
    let mut collector = collector();
    collector.on_view(&view(ServiceState::Healthy), at(0.0));
    ticks(&mut collector, 0.0, 30.0);
    // It was stopped, or the host slept. The first that it learns then is a fault of long ago.
    fails(&mut collector, 100.0, 500.0);
    ticks(&mut collector, 500.0, 510.0);
    let sum = whole(&minutes(&mut collector, 510.0));
    assert_eq!((seconds(&sum, Class::Healthy), seconds(&sum, Class::Down)), (30.0, 10.0));
    assert_eq!(sum.watched(), 40 * SECOND);
}

#[test]
fn a_wall_clock_that_jumps_changes_no_duration_and_makes_none_negative() {
    let hour = 3_600_000_000_000_i128;
    for jump in [hour, -hour, 61 * 1_000_000_000, -61 * 1_000_000_000, -100_000_000, 1_000] {
        let mut collector = collector();
        let ahead = AHEAD - 1_000_000_000_000;
        collector.on_view(&view(ServiceState::Healthy), at(0.0));
        let mut all: BTreeMap<i64, Totals> = BTreeMap::new();
        for second in 0..=180 {
            let now = f64::from(second);
            match second {
                100 => fails(&mut collector, 99.0, 100.0),
                110 => heals(&mut collector, 110.0),
                _ => {}
            }
            let ahead = if second >= 90 { ahead + jump } else { ahead };
            if collector.tick(at(now), ahead) {
                for (minute, more) in minutes(&mut collector, now) {
                    all.entry(minute).or_default().add(&more);
                }
            }
        }
        for (minute, more) in minutes(&mut collector, 180.0) {
            all.entry(minute).or_default().add(&more);
        }
        let sum = whole(&all);
        let times = (seconds(&sum, Class::Healthy), seconds(&sum, Class::Down));
        assert_eq!(times, (169.0, 11.0), "{jump}");
        for (minute, totals) in all {
            let written = totals.within(MINUTE);
            assert!(written.times.iter().all(|time| *time >= 0), "{jump}: {minute}: {totals:?}");
            assert!(written.watched() <= 60 * SECOND, "{jump}: {minute}: {totals:?}");
        }
    }
}

#[test]
fn a_minute_never_has_more_than_sixty_seconds_and_keeps_its_shares() {
    let twice = Totals { times: [60 * SECOND, 0, 20 * SECOND, 0, 0, 0, 0, 0], counts: [3, -1, 0, 0, 0] };
    let written = twice.within(MINUTE);
    assert_eq!((seconds(&written, Class::Healthy), seconds(&written, Class::Down)), (45.0, 15.0));
    assert_eq!(written.counts, [3, 0, 0, 0, 0]);
    let owed = Totals { times: [-1, 5, 0, 0, 0, 0, 0, 0], ..Totals::default() };
    assert_eq!(owed.within(MINUTE).times, [0, 5, 0, 0, 0, 0, 0, 0]);
    let absurd = Totals { times: [i64::MAX; 8], ..Totals::default() };
    assert!(absurd.within(MINUTE).watched() <= 60 * SECOND);
}

#[test]
fn restarts_for_incidents_and_probes_that_reached_for_the_service_are_counted() {
    let mut collector = collector();
    let mut restart = |action: Action, with_incident: bool| {
        let restart = Restart {
            service: API,
            incident: with_incident.then(|| incident(at(0.0)).id),
            method: RestartMethod::Supervisor,
            attempt: 1,
            reason: String::new(),
            budget_left: 1,
            action,
        };
        collector.on_fact(&Fact::Restart(restart), at(1.0));
    };
    let why = || "because".to_owned();
    for action in
        [Action::Hold(why()), Action::Hold(why()), Action::Request, Action::Done, Action::Fail(why())]
    {
        restart(action, true);
    }
    restart(Action::Done, false);
    let failed = |failure| ProbeOutcome::Failed(failure, why());
    let outcomes = [
        ProbeOutcome::Ok,
        ProbeOutcome::Starting(why()),
        failed(ProbeFailure::Refused),
        failed(ProbeFailure::Local),
    ];
    for outcome in outcomes {
        collector.on_probe(&ProbeReport {
            service: API,
            index: 0,
            at: at(2.0),
            kind: ProbeKind::Http,
            target: String::new(),
            duration: Duration::from_millis(1),
            outcome,
            hurried: None,
            remark: None,
            server: None,
        });
    }
    let all = minutes(&mut collector, 3.0);
    let count = |count| all[&0].count(count);
    assert_eq!((count(Count::Probes), count(Count::FailedProbes)), (3, 1));
    let restarts = [Count::Restarts, Count::FailedRestarts, Count::HeldRestarts].map(count);
    assert_eq!(restarts, [1, 1, 2]);
}

#[test]
fn a_service_that_a_reload_removed_counts_no_longer() {
    let mut collector = collector();
    collector.on_view(&view(ServiceState::Healthy), at(0.0));
    collector.retain(&BTreeSet::new(), at(10.0));
    // Its incident ends with it.
    fails(&mut collector, 11.0, 12.0);
    let all = minutes(&mut collector, 20.0);
    assert_eq!(whole(&all).watched(), 10 * SECOND);
}
