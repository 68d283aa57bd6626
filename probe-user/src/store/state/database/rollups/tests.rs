//! Sums become coarse, and stay right.

use super::*;
use crate::store::{
    rollup::{Class, Count},
    state::database::MIGRATIONS,
};

/// The beginning of a day.
const NOW: i64 = 20_000 * DAY;
const KEEP: i64 = 90 * DAY;

fn file() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    MIGRATIONS.iter().for_each(|step| connection.execute_batch(step).unwrap());
    connection
}

fn minute(service: &str, start: i64, down: i64) -> Rollup {
    let mut totals = Totals::default();
    totals.add_time(Class::Healthy, (60 - down) * 1_000_000);
    totals.add_time(Class::Down, down * 1_000_000);
    totals.add_count(Count::Probes);
    Rollup { service: service.to_owned(), start, totals }
}

fn write_all(connection: &mut Connection, rollups: impl IntoIterator<Item = Rollup>) {
    let group = connection.transaction().unwrap();
    write(&group, rollups).unwrap();
    group.commit().unwrap();
}

/// Prunes until nothing is left to do, and returns how often that was.
fn prune_all(connection: &mut Connection, most: i64) -> usize {
    let mut times = 1;
    while prune(connection, NOW, KEEP, most).unwrap() {
        times += 1;
        assert!(times < 10_000, "it ends");
    }
    times
}

fn sum(connection: &Connection, service: &str) -> Totals {
    let found = between(connection, 0, i64::MAX, Some(service)).unwrap();
    found.first().map(|recorded| recorded.totals).unwrap_or_default()
}

#[test]
fn minutes_become_hours_and_days_and_their_sums_stay() {
    let mut file = file();
    for service in ["api", "db"] {
        let minutes = (0..40 * 24 * 60).map(|back| NOW - (back + 1) * MINUTE);
        write_all(&mut file, minutes.map(|start| minute(service, start, start / MINUTE % 7)));
    }
    let before = [sum(&file, "api"), sum(&file, "db")];
    assert_eq!(before[0].count(Count::Probes), 40 * 24 * 60);
    assert!(before[0].time(Class::Down) > 0);
    prune_all(&mut file, MOST_ROWS);
    assert_eq!([sum(&file, "api"), sum(&file, "db")], before);
    assert_eq!(rows(&file).unwrap(), [2 * 2 * 24 * 60, 2 * 28 * 24, 2 * 10]);
}

#[test]
fn sums_that_come_for_a_span_that_is_coarse_by_now_are_added_to_it() {
    let mut file = file();
    let old = NOW - 10 * DAY;
    write_all(&mut file, [minute("api", old, 10)]);
    prune_all(&mut file, MOST_ROWS);
    write_all(&mut file, [minute("api", old + MINUTE, 20)]);
    prune_all(&mut file, MOST_ROWS);
    assert_eq!(rows(&file).unwrap(), [0, 1, 0]);
    assert_eq!(sum(&file, "api").time(Class::Down), 30_000_000);
}

#[test]
fn days_are_deleted_once_they_are_too_old() {
    let mut file = file();
    write_all(&mut file, [minute("api", NOW - 91 * DAY - MINUTE, 5), minute("api", NOW - 90 * DAY, 7)]);
    prune_all(&mut file, MOST_ROWS);
    assert_eq!(sum(&file, "api").time(Class::Down), 7_000_000);
    assert_eq!(rows(&file).unwrap(), [0, 0, 1]);
}

#[test]
fn too_many_rows_become_coarse_earlier_and_the_rest_costs_the_oldest_days() {
    let mut file = file();
    let hours = 30;
    for service in 0..40 {
        let minutes = (0..hours * 60).map(|back| NOW - (back + 1) * MINUTE);
        write_all(&mut file, minutes.map(|start| minute(&format!("s{service}"), start, 1)));
    }
    prune_all(&mut file, 1500);
    let [minutes, hours, days] = rows(&file).unwrap();
    assert!(minutes + hours + days <= 1500, "{minutes} {hours} {days}");
    for service in ["s0", "s39"] {
        assert_eq!(sum(&file, service).time(Class::Down), 30 * 60 * 1_000_000);
    }
    prune_all(&mut file, 20);
    let [minutes, hours, days] = rows(&file).unwrap();
    assert!(minutes + hours + days <= 20, "{minutes} {hours} {days}");
}

#[test]
fn a_period_begins_with_the_longest_span_that_its_first_moment_is_in() {
    let mut file = file();
    let day = NOW - 40 * DAY;
    write_all(&mut file, [minute("api", day + 5 * HOUR, 5), minute("api", NOW - HOUR, 1)]);
    assert_eq!(beginning(&file, day + 5 * HOUR + 30).unwrap(), day + 5 * HOUR);
    prune_all(&mut file, MOST_ROWS);
    assert_eq!(beginning(&file, day + 5 * HOUR + 30).unwrap(), day);
    assert_eq!(beginning(&file, NOW - DAY).unwrap(), NOW - DAY);
    assert_eq!(end(&file, NOW).unwrap(), Some(NOW - HOUR + MINUTE));
    assert_eq!(end(&file, NOW - 2 * HOUR).unwrap(), Some(day + DAY));
    assert_eq!(end(&file, 0).unwrap(), None);
}

#[test]
fn sums_of_the_future_are_in_no_period_and_stay() {
    let mut file = file();
    write_all(&mut file, [minute("api", NOW - MINUTE, 5), minute("api", NOW + 1000 * DAY, 9)]);
    prune_all(&mut file, MOST_ROWS);
    assert_eq!(end(&file, NOW).unwrap(), Some(NOW));
    let found = between(&file, NOW - DAY, NOW, None).unwrap();
    assert_eq!(found[0].totals.time(Class::Down), 5_000_000);
    assert_eq!(rows(&file).unwrap(), [2, 0, 0]);
}
