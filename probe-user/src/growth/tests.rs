//! Days of services that are well and of services that leak, replayed: what is announced, and when.
//!
//! The tables are in `docs/growth.md`: `UPDATE_DOCS=1 cargo test -p hostprobe --lib growth` writes them there.
//! `HOSTPROBE_GROWTH_SEEDS=100:50` replays fifty seeds from 100 on instead, and only prints the tables.

mod leaks;
mod replay;
mod services;

use std::{fmt::Write as _, fs, time::Duration};

use self::{
    leaks::{Leak, Of, Shape},
    replay::{DAY, HORIZON, HOUR, Outcome, Random, replay},
    services::{Kind, NORMAL, UNSEEN},
};
use super::{Series, WARM_UP};
use crate::clock::Timestamp;

/// The seeds of the page.
const SEEDS: std::ops::Range<u64> = 1..5;

/// Rates of leaks, in hundredths of the ceiling an hour.
const RATES: [u32; 7] = [1, 2, 5, 10, 20, 50, 100];

/// Leaks that rise by less in a day than the load does hide in it.
const HIDDEN_BELOW: u32 = 5;

/// Seconds between two values. Slow leaks need fewer of them.
const EVERY: f64 = 10.0;

/// The seeds to replay, and whether they are those of the page.
fn seeds() -> (std::ops::Range<u64>, bool) {
    let given = std::env::var("HOSTPROBE_GROWTH_SEEDS").ok().and_then(|given| {
        let (first, count) = given.split_once(':')?;
        let first: u64 = first.parse().ok()?;
        Some(first..first + count.parse::<u64>().ok()?)
    });
    given.map_or((SEEDS, true), |given| (given, false))
}

#[test]
fn two_days_of_services_that_are_well_give_no_alert_once_the_first_is_over() {
    let (seeds, of_page) = seeds();
    let mut table = String::from("| kind | first day | second day |\n|---|---|---|\n");
    let mut second_day = 0;
    for (kinds, which) in [(NORMAL.as_slice(), ""), (UNSEEN.as_slice(), " †")] {
        for (number, Kind { name, draw }) in (0..).zip(kinds) {
            let mut alerts = [0, 0];
            for seed in seeds.clone() {
                let random = &mut Random::new(seed * 1000 + number);
                let outcome = replay(&mut draw(random), EVERY, 2.0, random);
                for (sum, day) in alerts.iter_mut().zip(outcome.alerts) {
                    *sum += day;
                }
            }
            let [first, second] = alerts;
            second_day += second;
            writeln!(table, "| {name}{which} | {first} | {second} |").unwrap();
        }
    }
    println!("{table}");
    if of_page {
        hold("services", &table);
    }
    assert_eq!(second_day, 0, "{table}");
}

#[test]
fn leaks_are_announced_before_half_of_the_remaining_time_is_gone() {
    let (seeds, of_page) = seeds();
    let mut table = String::from("| leak |");
    RATES.iter().for_each(|rate| write!(table, " {rate} %/h |").unwrap());
    table.push_str("\n|---|---|---|---|---|---|---|---|\n");
    let mut late = Vec::new();
    let rows = [
        ("memory, evenly", Shape::Even, Of::Memory),
        ("memory, in steps", Shape::Steps, Of::Memory),
        ("memory, with noise", Shape::Noise, Of::Memory),
        ("memory, with garbage collections", Shape::Collector, Of::Memory),
        ("memory, with office hours", Shape::Office, Of::Memory),
        ("descriptors, evenly", Shape::Even, Of::Descriptors),
        ("descriptors, in steps", Shape::Steps, Of::Descriptors),
        ("descriptors, with noise", Shape::Noise, Of::Descriptors),
    ];
    for (name, shape, of) in rows {
        write!(table, "| {name} |").unwrap();
        for rate in RATES {
            let mut least = f64::INFINITY;
            for seed in seeds.clone() {
                let random = &mut Random::new(seed * 1000 + u64::from(rate));
                let mut leak = leaks::draw(f64::from(rate) / 100.0, shape, of, seed % 2 == 0, random);
                let every = if rate < 20 { 6.0 * EVERY } else { EVERY };
                let outcome = replay(&mut leak.resource, every, 10.0, random);
                let left = left_of_whole(&leak, &outcome);
                let is_hidden = shape == Shape::Office && rate < HIDDEN_BELOW;
                if left < 0.5 && !is_hidden {
                    late.push(format!("{name} {rate} %/h seed {seed}: {left:.2}"));
                }
                least = least.min(left);
            }
            let hidden = if shape == Shape::Office && rate < HIDDEN_BELOW { "¹" } else { "" };
            write!(table, " {:.0} %{hidden} |", least * 100.0).unwrap();
        }
        table.push('\n');
    }
    println!("{table}{late:#?}");
    if of_page {
        hold("leaks", &table);
    }
    assert!(late.is_empty(), "{late:#?}");
}

/// The part of the time that is left when a leak is announced. The whole time counts from when it can be known: it has
/// begun, its process is past the warm-up, its values are above those that the service came down from the day before, and
/// the ceiling is not further than the horizon.
fn left_of_whole(leak: &Leak, outcome: &Outcome) -> f64 {
    let full = outcome.full.expect("every leak fills its resource within ten days");
    let warm_up = if leak.with_process { HORIZON.as_secs_f64() / f64::from(WARM_UP) } else { 0.0 };
    let known = (leak.onset + warm_up).max(full - HORIZON.as_secs_f64()).max(outcome.new_high);
    let Some((at, forecast)) = outcome.announced else { return 0.0 };
    assert!(at > leak.onset, "announced {} h before it began", (leak.onset - at) / HOUR);
    assert!(forecast.earliest <= forecast.left && forecast.left <= forecast.latest, "{forecast:?}");
    // A leak that is known after it was announced has all of its time left.
    ((full - at) / (full - known)).min(1.0)
}

/// A page of the documentation has this table after its marker. `UPDATE_DOCS=1` writes it there.
fn hold(marker: &str, table: &str) {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/growth.md");
    let text = fs::read_to_string(page).unwrap();
    let (begin, end) = (format!("<!-- {marker} -->\n"), format!("<!-- end of {marker} -->\n"));
    let (before, rest) = text.split_once(&begin).expect(marker);
    let (found, after) = rest.split_once(&end).expect(marker);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(page, format!("{before}{begin}{table}{end}{after}")).unwrap();
    } else {
        assert_eq!(found, table, "docs/growth.md is out of date: run this test with UPDATE_DOCS=1");
    }
}

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_nanos((seconds * 1e9) as u64)
}

/// A series after a day at a fifth of the ceiling, and then growth by `rate` of it an hour for some hours.
fn grown(rate: f64, hours: f64) -> Series {
    let mut series = Series::new(HORIZON, at(0.0));
    for minute in 0..((24.0 + hours) * 60.0) as u32 {
        let time = f64::from(minute) * 60.0;
        let value = 0.2 + rate * (time - DAY).max(0.0) / HOUR;
        series.add(at(time), value, value);
    }
    series
}

#[test]
fn an_even_growth_has_its_slope_and_time_left() {
    let forecast = grown(0.2, 2.0).forecast(1.0).expect("a third of what there was is used");
    assert!((forecast.per_hour - 0.2).abs() < 0.01, "{forecast:?}");
    let minutes = forecast.left.as_secs() / 60;
    assert!((117..123).contains(&minutes), "{forecast:?}");
    assert!(forecast.is_within(HORIZON) && !forecast.is_within(HORIZON / 4), "{forecast:?}");
}

#[test]
fn a_growth_that_is_far_from_its_ceiling_matters_later() {
    let forecast = grown(0.01, 50.0).forecast(1.0).expect("it is steady");
    assert!(forecast.left > Duration::from_secs(29 * 3600) && !forecast.is_within(HORIZON), "{forecast:?}");
    assert_eq!(grown(0.01, 50.0).forecast(1e9), None, "nearly nothing is used");
}

#[test]
fn one_step_is_no_growth() {
    let mut series = grown(0.0, 0.0);
    for minute in 0..120 {
        series.add(at(DAY + f64::from(minute) * 60.0), 0.8, 0.8);
        assert_eq!(series.forecast(1.0), None);
    }
}

#[test]
fn a_restart_begins_again_and_a_clock_that_stands_still_changes_nothing() {
    let mut series = grown(0.2, 2.0);
    series.add(at(DAY), 0.0, 0.0);
    assert!(series.forecast(1.0).is_some(), "that was before");
    series.add(at(DAY + 2.1 * HOUR), f64::NAN, f64::INFINITY);
    assert!(series.forecast(1.0).is_some(), "that is no value");
    series.restart(at(DAY + 2.1 * HOUR));
    assert_eq!(series.forecast(1.0), None);
}

#[test]
fn a_long_gap_begins_again_and_a_full_resource_has_no_time_left() {
    let full = grown(0.2, 4.5).forecast(1.0).expect("it has passed its ceiling");
    assert_eq!((full.left, full.latest), (Duration::ZERO, Duration::ZERO));
    let mut series = grown(0.2, 2.0);
    series.add(at(40.0 * DAY), 0.9, 0.9);
    assert_eq!(series.forecast(1.0), None);
}
