//! A report as text, as narrow as [`COLUMNS`].

use hostprobe::store::report::{Recovery, Report, ServiceReport, Spread};

use super::{
    super::output::Page,
    figure::{percent, span},
};

/// The width of the text.
const COLUMNS: usize = 100;

/// The longest name of a service that a table shows in full.
const NAME: usize = 20;

/// The most recoveries that the list of all services has.
const SLOWEST: usize = 5;

pub(super) fn of(report: &Report, down: Option<&str>) -> Page {
    let mut page = Page::of(down);
    page.line(format_args!("{} to {} UTC", moment(&report.from), moment(&report.to)));
    let services = &report.services;
    if services.is_empty() {
        page.line(format_args!("nothing was recorded in this time"));
        return page;
    }
    let width = services.iter().map(|service| name(service).chars().count()).max().unwrap_or(0).max(7);
    availability(&mut page, services, width);
    planned(&mut page, services, width);
    if services.iter().any(|service| service.incidents.total > 0) {
        incidents(&mut page, services, width);
        open(&mut page, services, width);
        slowest(&mut page, services, width);
    }
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

/// What does not count.
fn planned(page: &mut Page, services: &[ServiceReport], width: usize) {
    let mut lines = Vec::new();
    for service in services {
        let times = &service.time_ms;
        let parts = [
            (times.stopped, "stopped"),
            (times.paused, "paused"),
            (times.maintenance, "in maintenance"),
            (times.unknown, "starting or unknown"),
            (times.not_observed, "not observed"),
        ];
        let parts = parts.into_iter().filter(|(time, _)| *time > 0.0);
        let parts = parts.map(|(time, what)| format!("{what} {}", span(time)));
        lines.extend(listed(service, width, parts));
    }
    section(page, "Not counted", &lines);
}

fn incidents(page: &mut Page, services: &[ServiceReport], width: usize) {
    page.line(format_args!(""));
    page.line(format_args!(
        "{:<width$}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>8}  {:>4}",
        "", "", "DETECTED", "", "RECOVERED", "", "", "", ""
    ));
    page.line(format_args!(
        "{:<width$}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>8}  {:>4}",
        "SERVICE", "INCIDENTS", "MEDIAN", "P95", "COUNT", "MEDIAN", "P95", "RESTARTS", "HELD"
    ));
    let median = |spread: &Option<Spread>| spread.map_or("-".to_owned(), |spread| span(spread.median_ms));
    let p95 = |spread: &Option<Spread>| spread.map_or("-".to_owned(), |spread| span(spread.p95_ms));
    for service in services.iter().filter(|service| service.incidents.total > 0) {
        let (detect, recover) = (&service.time_to_detect, &service.time_to_recover);
        page.line(format_args!(
            "{:<width$}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>8}  {:>4}",
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
    let name = &service.service;
    if name.chars().count() <= NAME {
        return name.clone();
    }
    name.chars().take(NAME - 3).chain("...".chars()).collect()
}

/// A moment of the report, to the second.
fn moment(rfc3339: &str) -> String {
    rfc3339.get(..19).unwrap_or(rfc3339).replace('T', " ")
}
