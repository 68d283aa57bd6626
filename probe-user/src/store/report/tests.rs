//! What a report says of records and incidents.

use super::*;

const SECOND: i64 = 1_000_000;
const HOUR: Period = Period { from: 7200, to: 10_800 };

fn recorded(service: &str, first: i64, times: [i64; 8]) -> Recorded {
    let totals = Totals { times: times.map(|seconds| seconds * SECOND), counts: [360, 12, 2, 1, 3] };
    Recorded { service: service.to_owned(), first, totals }
}

fn incident(number: u32, since: i64, recovered: Option<i64>) -> PastIncident {
    PastIncident {
        id: format!("a0-i{number}"),
        service: "web".to_owned(),
        verdict: if number.is_multiple_of(2) { "hung" } else { "killed" }.to_owned(),
        since: since * SECOND,
        open: recovered.is_none(),
        detected: Some(i64::from(number) * 1000),
        recovered: recovered.map(|millis| millis * 1000),
        is_drill: false,
        until: recovered.map(|millis| since * SECOND + millis * 1000),
    }
}

fn of(recorded: &[Recorded], incidents: &[PastIncident]) -> ServiceReport {
    let report = Report::of(HOUR, recorded, incidents);
    assert_eq!((&*report.from, &*report.to), ("1970-01-01T02:00:00.000Z", "1970-01-01T03:00:00.000Z"));
    let [service] = &report.services[..] else { panic!("{report:?}") };
    service.clone()
}

#[test]
fn availability_is_the_share_of_the_watched_time_in_which_a_service_was_to_work() {
    let report = of(&[recorded("web", 0, [1500, 480, 20, 300, 200, 100, 0, 50])], &[]);
    assert_eq!(report.availability, Some(0.99));
    let times = report.time_ms;
    assert_eq!((times.healthy, times.degraded, times.down), (1_500_000.0, 480_000.0, 20_000.0));
    assert_eq!((times.planned(), times.unknown), (600_000.0, 50_000.0));
    assert_eq!(times.not_observed, 950_000.0, "the rest of the hour");
    assert_eq!(report.worked(), (1980 * SECOND, 2000 * SECOND));
    assert_eq!((report.probes, report.restarts), {
        (Probes { made: 360, failed: 12 }, Restarts { done: 2, failed: 1, held: 3 })
    });
}

#[test]
fn a_drill_is_planned_and_counts_for_no_time_to_detect_or_recover() {
    let drill = PastIncident { is_drill: true, ..incident(2, 7300, Some(20_000)) };
    let real = incident(3, 7400, Some(5000));
    let report = of(&[recorded("web", 0, [3575, 0, 5, 0, 0, 0, 20, 0])], &[drill, real]);
    let times = report.time_ms;
    assert_eq!(
        (times.down, times.drilled, times.planned(), times.not_observed),
        (5000.0, 20_000.0, 20_000.0, 0.0)
    );
    assert_eq!(report.availability, Some(3575.0 / 3580.0));
    assert_eq!((report.incidents.total, report.time_to_recover.unwrap().max_ms), (1, 5000.0));
}

#[test]
fn what_was_not_watched_is_neither_up_nor_down() {
    let nothing = of(&[recorded("web", 0, [0; 8])], &[]);
    assert_eq!((nothing.availability, nothing.time_ms.not_observed), (None, 3_600_000.0));
    let later = of(&[recorded("web", 9000, [1800, 0, 0, 0, 0, 0, 0, 0])], &[]);
    assert_eq!((later.availability, later.time_ms.not_observed), (Some(1.0), 0.0), "it is new");
    let planned = of(&[recorded("web", 0, [0, 0, 0, 3600, 0, 0, 0, 0])], &[]);
    assert_eq!(planned.availability, None);
    let down = of(&[recorded("web", 0, [0, 0, 3600, 0, 0, 0, 0, 0])], &[]);
    assert_eq!(down.availability, Some(0.0));
    let doubled = of(&[recorded("web", 0, [5000, 0, 0, 0, 0, 0, 0, 0])], &[]);
    assert_eq!(doubled.time_ms.not_observed, 0.0, "never below zero");
}

#[test]
fn incidents_are_counted_by_verdict_and_open_ones_have_not_recovered() {
    let incidents = [
        incident(1, 7000, Some(2)),
        incident(2, 7300, Some(30_000)),
        incident(3, 7400, Some(4)),
        incident(4, 10_000, None),
    ];
    let report = of(&[], &incidents);
    assert_eq!(report.availability, None);
    let by_verdict: Vec<_> = report.incidents.by_verdict.iter().collect();
    assert_eq!(by_verdict, [(&"hung".to_owned(), &2), (&"killed".to_owned(), &2)]);
    assert_eq!(report.incidents.total, 4);
    let [open] = &report.incidents.open[..] else { panic!("{:?}", report.incidents.open) };
    assert_eq!((&*open.id, &*open.since), ("a0-i4", "1970-01-01T02:46:40.000Z"));
    let (detect, recover) = (report.time_to_detect.unwrap(), report.time_to_recover.unwrap());
    assert_eq!((detect.count, detect.median_ms, detect.p95_ms), (4, 2.0, 4.0));
    assert_eq!((recover.count, recover.median_ms, recover.p95_ms), (3, 4.0, 30_000.0));
    let slowest: Vec<&str> = report.slowest_recoveries.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(slowest, ["a0-i2", "a0-i3", "a0-i1"]);
}

#[test]
fn few_of_many_recoveries_are_named() {
    let incidents: Vec<PastIncident> =
        (0..50).map(|number| incident(number, 7300, Some(number.into()))).collect();
    let report = of(&[], &incidents);
    let slowest: Vec<f64> = report.slowest_recoveries.iter().map(|it| it.took_ms).collect();
    assert_eq!(slowest, [49.0, 48.0, 47.0, 46.0, 45.0]);
}
