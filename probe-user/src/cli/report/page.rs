//! A report as text, as narrow as [`COLUMNS`].

use hostprobe::{
    fact::DrillOutcome,
    store::report::{PastDrill, Recovery, Report, ServiceReport, Spread},
};

use super::{
    super::output::Page,
    figure::{percent, span},
};

/// The width of the text.
const COLUMNS: usize = 100;

/// The longest name of a service that a table shows in full.
const NAME: usize = 20;

/// A shorter time that does not count is not named, in milliseconds: each service starts at some time.
const WORTH_A_WORD: f64 = 1000.0;

/// The most recoveries that the list of all services has.
const SLOWEST: usize = 5;

/// The most drills that it shows, the latest.
const DRILLS: usize = 10;

pub(super) fn of(report: &Report, down: Option<&str>) -> Page {
    let mut page = Page::of(down);
    let length = length(report).map(|ms| format!(", {}", span(ms))).unwrap_or_default();
    page.line(format_args!("{} to {} UTC{length}", moment(&report.from), moment(&report.to)));
    let services = &report.services;
    if services.is_empty() {
        page.line(format_args!("nothing was recorded in this time"));
        return page;
    }
    let width = services.iter().map(|service| name(service).chars().count()).max().unwrap_or(0).max(7);
    availability(&mut page, services, width);
    not_counted(&mut page, services, width);
    if services.iter().any(|service| service.incidents.total > 0) {
        incidents(&mut page, services, width);
        open(&mut page, services, width);
        slowest(&mut page, services, width);
    }
    drills(&mut page, &report.drills, width);
    page
}

fn availability(page: &mut Page, services: &[ServiceReport], width: usize) {
    page.line(format_args!(""));
    page.line(format_args!(
        "{:<width$}  {:>12}  {:>9}  {:>9}  {:>9}  {:>12}",
        "SERVICE", "AVAILABILITY", "DOWN", "DEGRADED", "PLANNED", "NOT OBSERVED"
    ));
    for service in services {
        let times = &service.time_ms;
        let (worked, all) = service.worked();
        page.line(format_args!(
            "{:<width$}  {:>12}  {:>9}  {:>9}  {:>9}  {:>12}",
            name(service),
            percent(worked, all).unwrap_or_else(|| "-".to_owned()),
            span(times.down),
            span(times.degraded),
            span(times.planned()),
            span(times.unknown + times.not_observed),
        ));
    }
}

/// What does not count although hostprobe ran.
fn not_counted(page: &mut Page, services: &[ServiceReport], width: usize) {
    let mut lines = Vec::new();
    for service in services {
        let times = &service.time_ms;
        let parts = [
            (times.stopped, "stopped"),
            (times.paused, "paused"),
            (times.maintenance, "in maintenance"),
            (times.drilled, "drilled"),
            (times.unknown, "starting or unknown"),
        ];
        let parts = parts.into_iter().filter(|(time, _)| *time >= WORTH_A_WORD);
        let parts = parts.map(|(time, what)| format!("{what} {}", span(time)));
        lines.extend(listed(service, width, parts));
    }
    section(page, "Not counted", &lines);
}

fn incidents(page: &mut Page, services: &[ServiceReport], width: usize) {
    page.line(format_args!(""));
    page.line(format_args!("{:<width$}  {:>9}  {:>20}  {:>26}", "", "", "TIME TO DETECT", "TIME TO RECOVER"));
    page.line(format_args!(
        "{:<width$}  {:>9}  {:>9}  {:>9}  {:>4}  {:>9}  {:>9}  {:>8}  {:>5}",
        "SERVICE", "INCIDENTS", "MEDIAN", "P95", "N", "MEDIAN", "P95", "RESTARTS", "HELD"
    ));
    let median = |spread: &Option<Spread>| spread.map_or("-".to_owned(), |spread| span(spread.median_ms));
    let p95 = |spread: &Option<Spread>| spread.map_or("-".to_owned(), |spread| span(spread.p95_ms));
    for service in services.iter().filter(|service| service.incidents.total > 0) {
        let (detect, recover) = (&service.time_to_detect, &service.time_to_recover);
        page.line(format_args!(
            "{:<width$}  {:>9}  {:>9}  {:>9}  {:>4}  {:>9}  {:>9}  {:>8}  {:>5}",
            name(service),
            service.incidents.total,
            median(detect),
            p95(detect),
            recover.map_or(0, |spread| spread.count),
            median(recover),
            p95(recover),
            service.restarts.done,
            service.restarts.held,
        ));
    }
    let failed = services.iter().filter(|service| service.restarts.failed > 0);
    let failed = failed.map(|service| format!("  {:<width$}  {}", name(service), service.restarts.failed));
    section(page, "Restarts that failed", &failed.collect::<Vec<_>>());
    let verdicts = services.iter().flat_map(|service| {
        let verdicts = service.incidents.by_verdict.iter();
        listed(service, width, verdicts.map(|(verdict, count)| format!("{verdict} {count}")))
    });
    section(page, "Verdicts", &verdicts.collect::<Vec<_>>());
}

fn open(page: &mut Page, services: &[ServiceReport], width: usize) {
    let open = services.iter().flat_map(|service| {
        service.incidents.open.iter().map(move |incident| {
            let (verdict, since) = (&incident.verdict, moment(&incident.since));
            format!("  {:<width$}  {verdict:<15}  since {since}  {}", name(service), incident.id)
        })
    });
    section(page, "Open incidents", &open.collect::<Vec<_>>());
}

fn slowest(page: &mut Page, services: &[ServiceReport], width: usize) {
    let mut all: Vec<(&ServiceReport, &Recovery)> = Vec::new();
    for service in services {
        all.extend(service.slowest_recoveries.iter().map(|recovery| (service, recovery)));
    }
    all.sort_by(|(_, a), (_, b)| b.took_ms.total_cmp(&a.took_ms).then_with(|| a.since.cmp(&b.since)));
    let lines = all.iter().take(SLOWEST).map(|(service, recovery)| {
        let name = name(service);
        let (took, since) = (span(recovery.took_ms), moment(&recovery.since));
        format!("  {name:<width$}  {:<15}  {took:>9}  {since}  {}", recovery.verdict, recovery.id)
    });
    section(page, "Slowest recoveries", &lines.collect::<Vec<_>>());
}

fn drills(page: &mut Page, drills: &[PastDrill], width: usize) {
    let lines = drills.iter().take(DRILLS).map(|drill| {
        let (fault, began) = (drill.fault.as_str(), moment(&drill.began));
        let has_recovered = drill.outcome == DrillOutcome::Recovered;
        let recovered = drill.recovered_ms.filter(|_| has_recovered);
        let times =
            [("detected", drill.detected_ms), ("alerted", drill.alerted_ms), ("recovered", recovered)];
        let times = times.into_iter().filter_map(|(step, ms)| Some(format!("{step} {}", span(ms?))));
        let outcome = (!has_recovered).then(|| drill.outcome.as_str().replace('_', " "));
        let parts: Vec<String> = times.chain(outcome).collect();
        format!("  {:<width$}  {fault:<6}  {began}  {}", clipped(&drill.service), parts.join(", "))
    });
    section(page, "Drills", &lines.collect::<Vec<_>>());
}

/// A title and lines, if there are any.
fn section(page: &mut Page, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    page.line(format_args!(""));
    page.line(format_args!("{title}"));
    lines.iter().for_each(|line| page.line(format_args!("{line}")));
}

/// The name of a service and what belongs to it, in as many lines as that takes; none without anything.
fn listed(service: &ServiceReport, width: usize, parts: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.chars().count() + part.chars().count() + 3 <= COLUMNS => {
                line.push_str(&format!(", {part}"));
            }
            Some(line) => {
                line.push(',');
                lines.push(format!("  {:<width$}  {part}", ""));
            }
            None => lines.push(format!("  {:<width$}  {part}", name(service))),
        }
    }
    lines
}

/// The name of a service, or the beginning of it.
fn name(service: &ServiceReport) -> String {
    clipped(&service.service)
}

fn clipped(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    name.chars().take(NAME - 3).chain("...".chars()).collect()
}

/// The length of the period, in milliseconds.
fn length(report: &Report) -> Option<f64> {
    let at = |text: &str| text.parse::<jiff::Timestamp>().ok();
    Some(at(&report.to)?.duration_since(at(&report.from)?).as_millis() as f64)
}

/// A moment of the report, to the second.
fn moment(rfc3339: &str) -> String {
    rfc3339.get(..19).unwrap_or(rfc3339).replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> ServiceReport {
        let spread = serde_json::json!({ "count": 1, "median_ms": 1e9, "p95_ms": 1e9, "max_ms": 1e9 });
        let recovery = serde_json::json!({
            "id": "0123abcd-i4294967295", "verdict": "dependency_down", "since": "2026-11-28T00:00:00.000Z", "took_ms": 1e9
        });
        let verdicts =
            ["dependency_down", "pool_exhausted", "limit_exceeded", "worker_died", "out_of_verdicts"];
        let verdicts: serde_json::Map<_, _> =
            verdicts.iter().map(|it| ((*it).to_owned(), 1000.into())).collect();
        let report = serde_json::json!({
            "service": name,
            "availability": 0.5,
            "time_ms": { "healthy": 1e12, "degraded": 1e9, "down": 1.0, "stopped": 1e9, "paused": 1e9,
                         "maintenance": 1e9, "unknown": 1e9, "not_observed": 1e9 },
            "probes": { "made": 1, "failed": 0 },
            "incidents": { "total": 1000, "by_verdict": verdicts, "open": [] },
            "time_to_detect": spread,
            "time_to_recover": spread,
            "restarts": { "done": 1000, "failed": 3, "held": 10_000 },
            "slowest_recoveries": [recovery],
        });
        serde_json::from_value(report).unwrap()
    }

    fn text(services: Vec<ServiceReport>) -> String {
        let from = "2026-11-28T00:00:00.000Z".to_owned();
        let report =
            Report { from, to: "2026-11-29T00:00:00.000Z".to_owned(), services, drills: vec![drill()] };
        of(&report, None).text().to_owned()
    }

    fn drill() -> PastDrill {
        let drill = serde_json::json!({
            "id": "a-d1", "service": "a-service-whose-name-is-longer-than-a-table-takes", "fault": "refuse",
            "outcome": "not_recovered", "began": "2026-11-28T00:00:00.000Z", "detected_ms": 1e9, "alerted_ms": 1e9,
        });
        serde_json::from_value(drill).unwrap()
    }

    #[test]
    fn a_page_is_never_wider_than_it_may_be() {
        let page = text(vec![service("a"), service("a-service-whose-name-is-longer-than-a-table-takes")]);
        for line in page.lines() {
            assert!(line.chars().count() <= COLUMNS && line.trim_end() == line, "{line}\n{page}");
        }
        assert!(page.contains("\na-service-whose-n...  "), "{page}");
    }

    #[test]
    fn a_period_without_records_says_so() {
        let page = text(Vec::new());
        assert_eq!(
            page,
            "2026-11-28 00:00:00 to 2026-11-29 00:00:00 UTC, 24.0 h\nnothing was recorded in this time\n"
        );
    }

    #[test]
    fn a_name_from_outside_does_not_reach_the_terminal() {
        let page = text(vec![service("web\u{1b}[2J\n")]);
        assert!(page.contains("web\\u{1b}[2J\\n"), "{page}");
    }
}
