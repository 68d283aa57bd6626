//! What services did outlives the daemon, and is read beside it and without it.

use super::*;
use crate::store::{
    report::Report,
    rollup::{Class, Count, MINUTE, Rollup, Totals},
};

const DAY: Duration = Duration::from_secs(86_400);

/// The beginning of the minute before the latest one of which a second has passed.
fn last_minute() -> i64 {
    let now = jiff::Timestamp::now().as_second() - 1;
    now - now.rem_euclid(MINUTE) - MINUTE
}

fn rollup(service: &str, start: i64, healthy: i64, down: i64) -> Rollup {
    let mut totals = Totals::default();
    totals.add_time(Class::Healthy, healthy * 1_000_000);
    totals.add_time(Class::Down, down * 1_000_000);
    totals.add_count(Count::Probes);
    Rollup { service: service.to_owned(), start, totals }
}

fn report(folder: &Path, within: Duration, service: Option<&str>, asker: Asker) -> Report {
    Reader::open(folder).unwrap().report(within, service, asker).unwrap()
}

#[test]
fn two_runs_of_the_daemon_in_one_minute_add_up_and_none_counts_twice() {
    let folder = TempDir::new().unwrap();
    let start = last_minute();
    for (healthy, down) in [(20, 5), (10, 1), (-3, 3)] {
        let (store, _) = open(folder.path());
        store.keep_rollups(vec![rollup("web", start, healthy, down)]);
        store.shutdown(LONG);
        // A run that changes nothing writes nothing again.
        run(folder.path(), &[]);
    }
    let report = report(folder.path(), DAY, None, Asker::Command);
    let [web] = &report.services[..] else { panic!("{report:?}") };
    let times = web.time_ms;
    assert_eq!((times.healthy, times.down, times.not_observed), (27_000.0, 9000.0, 24_000.0));
    assert_eq!((web.availability, web.probes.made), (Some(0.75), 3));
    assert_eq!(report.to.parse::<jiff::Timestamp>().unwrap().as_second(), start + MINUTE);
}

#[test]
fn the_minutes_that_a_killed_daemon_has_flushed_are_there() {
    let folder = TempDir::new().unwrap();
    let (store, _) = open(folder.path());
    store.keep_rollups(vec![rollup("web", last_minute(), 60, 0)]);
    store.flush_for(LONG).unwrap().wait();
    store.keep_rollups(vec![rollup("web", last_minute() + MINUTE, 1, 0)]);
    // The store is not shut down, as after SIGKILL. Its last minute is not written. Sums are written after what is urgent.
    let deadline = std::time::Instant::now() + LONG;
    let mut services = Vec::new();
    while services.is_empty() && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
        services = report(folder.path(), DAY, None, Asker::Command).services;
    }
    assert_eq!(services[0].time_ms.healthy, 60_000.0);
    store.shutdown(LONG);
}

#[test]
fn a_daemon_leaves_out_the_minute_under_way_and_a_command_does_not() {
    let folder = TempDir::new().unwrap();
    let (store, _) = open(folder.path());
    let start = last_minute();
    store.keep_rollups(vec![rollup("web", start, 60, 0), rollup("web", start + MINUTE, 1, 0)]);
    store.shutdown(LONG);
    let of = |asker| {
        let report = report(folder.path(), DAY, None, asker);
        (report.to.parse::<jiff::Timestamp>().unwrap().as_second(), report.services[0].time_ms.healthy)
    };
    let (to, healthy) = of(Asker::Daemon);
    assert!((to, healthy) == (start + MINUTE, 60_000.0) || to > start + MINUTE, "a minute may have ended");
    assert_eq!(of(Asker::Command).1, 61_000.0);
}

#[test]
fn a_minute_is_told_of_in_its_first_second() {
    let folder = TempDir::new().unwrap();
    let (store, _) = open(folder.path());
    let last = last_minute();
    // An hour, so that it is the beginning of the spans of an uptime as well.
    let hour = last - last.rem_euclid(3600);
    store.keep_rollups(vec![rollup("web", hour - MINUTE, 60, 0), rollup("web", hour, 1, 0)]);
    store.shutdown(LONG);
    let reader = Reader::open(folder.path()).unwrap();
    for now in [hour, hour + 1, hour + MINUTE - 1] {
        let of = |asker| reader.report_at(now, DAY, None, asker).unwrap().services[0].time_ms.healthy;
        assert_eq!((of(Asker::Command), of(Asker::Daemon)), (61_000.0, 60_000.0), "{}", now - hour);
        let uptime = reader.uptime_at(now, DAY, "web").unwrap();
        let healthy: f64 = uptime.spans.iter().map(|part| part.time_ms.healthy).sum();
        assert_eq!(healthy, 61_000.0, "{}", now - hour);
    }
}

#[test]
fn a_report_without_records_of_late_ends_now() {
    let folder = TempDir::new().unwrap();
    let (store, _) = open(folder.path());
    store.keep_rollups(vec![rollup("web", last_minute() - 180 * MINUTE, 60, 0)]);
    store.shutdown(LONG);
    let before = jiff::Timestamp::now().as_second();
    let short = report(folder.path(), Duration::from_secs(3600), None, Asker::Command);
    assert!(short.to.parse::<jiff::Timestamp>().unwrap().as_second() >= before);
    let times = short.services[0].time_ms;
    assert!(times.healthy == 0.0 && times.not_observed >= 3_600_000.0, "{times:?}");
    assert_eq!(short.services[0].availability, None);
    let none = report(folder.path(), DAY, Some("db"), Asker::Command);
    assert!(none.services.is_empty());
}

/// A file of before there were sums, with an incident.
fn old_file(folder: &Path) {
    run_with_incidents(folder, &[incident("a0-i1", "web", 3, Some(2))]);
    let old = Connection::open(folder.join(FILE)).unwrap();
    old.execute_batch("DROP TABLE rollups; DROP TABLE drills; DROP TABLE commands; DROP TABLE heartbeats")
        .unwrap();
    old.pragma_update(None, "user_version", 2).unwrap();
}

#[test]
fn a_file_of_before_sums_is_read_and_gets_them() {
    let folder = TempDir::new().unwrap();
    old_file(folder.path());
    let old = report(folder.path(), DAY, None, Asker::Command);
    let [web] = &old.services[..] else { panic!("{old:?}") };
    assert_eq!((web.incidents.total, web.availability, web.time_to_recover.unwrap().count), (1, None, 1));
    let (store, _) = open(folder.path());
    store.keep_rollups(vec![rollup("web", last_minute(), 60, 0)]);
    store.shutdown(LONG);
    let new = report(folder.path(), DAY, None, Asker::Command);
    assert_eq!((new.services[0].incidents.total, new.services[0].availability), (1, Some(1.0)));
}

#[test]
fn a_disk_that_hangs_costs_the_minutes_beyond_a_number_and_counts_them() {
    let queue = Queue::default();
    let (each, most) = (1000, queue::MOST_ROLLUPS as u64);
    for round in 0..20 {
        let rollups = (0..each).map(|service| rollup(&format!("s{service}"), round * MINUTE, 60, 0));
        queue.push(Job::Rollups(rollups.collect()));
    }
    assert_eq!(queue.take_loss(), 20 * each - most);
    queue.end();
    let queue::Next::End(jobs) = queue.next(None) else { panic!("it has ended") };
    let [Job::Rollups(rollups)] = &jobs[..] else { panic!("one job") };
    assert_eq!(rollups.len() as u64, most);
}

#[test]
fn uptime_is_told_by_the_hour_and_by_the_day() {
    let folder = TempDir::new().unwrap();
    let (store, _) = open(folder.path());
    let start = last_minute();
    let minutes =
        [(start, 60, 0), (start - 3600, 45, 15), (start - 3540, 60, 0), (start - 20 * 86_400, 0, 60)];
    let minutes = minutes.map(|(start, healthy, down)| rollup("web", start, healthy, down));
    store.keep_rollups(minutes.into_iter().chain([rollup("db", start, 1, 1)]).collect());
    store.shutdown(LONG);
    let of = |within, service| Reader::open(folder.path()).unwrap().uptime(within, service).unwrap();
    let day = of(DAY, "web");
    let healthy: f64 = day.spans.iter().map(|part| part.time_ms.healthy).sum();
    assert_eq!((day.span_s, healthy), (3600, 165_000.0));
    assert!((2..=3).contains(&day.spans.len()), "{day:?}");
    assert!(day.spans.is_sorted_by_key(|part| part.start.clone()) && day.spans[0].availability < Some(1.0));
    let month = of(30 * DAY, "web");
    assert_eq!((month.span_s, month.spans[0].availability), (86_400, Some(0.0)));
    assert!((2..=3).contains(&month.spans.len()), "{month:?}");
    assert_eq!(of(DAY, "none").spans, []);
}
