//! A report as one page for browsers and paper. It asks nothing of any address, and runs no script.

use std::collections::BTreeMap;

use hostprobe::store::report::{Report, ServiceReport, Spread};

use super::{
    figure::{percent, span},
    markup::{Markup, digest_of},
};

const STYLE: &str = include_str!("page.css");

/// How long a recovery takes where a person has to notice, log in, find out and restart, in minutes: what is usual with on-call
/// duty. It is not measured here, and the page says so.
const BY_HAND: [f64; 2] = [10.0, 30.0];

const MINUTE_MS: f64 = 60_000.0;

/// The most recoveries and drills that are listed.
const LISTED: usize = 10;

/// The page of a report of this host. `down` says where the figures are from if the daemon does not run.
pub(super) fn of(report: &Report, host: &str, down: Option<&str>) -> String {
    let mut page = Markup::default();
    page.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-");
    page.raw(&digest_of(STYLE));
    page.raw("'; base-uri 'none'; form-action 'none'\">\n");
    page.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.raw("<meta name=\"referrer\" content=\"no-referrer\">\n");
    page.element("title", &format!("hostprobe report of {host}"));
    page.raw("<style>").raw(STYLE).raw("</style>\n</head>\n<body>\n<main>\n");
    page.element("h1", &format!("Report of {host}"));
    let period = format!("{} to {} UTC", moment(&report.from), moment(&report.to));
    page.raw("<p class=\"soft\">").text(&period).raw("</p>\n");
    if let Some(down) = down {
        page.raw("<p class=\"soft\">").text(down).raw("</p>\n");
    }
    let services = &report.services;
    if services.is_empty() {
        page.element("p", "Nothing was recorded in this time.");
    } else {
        in_short(&mut page, services);
        availability(&mut page, services);
        before_and_after(&mut page, services);
        verdicts(&mut page, services);
        incidents(&mut page, services);
        open(&mut page, services);
        slowest(&mut page, services);
    }
    drills(&mut page, report);
    page.raw("</main>\n</body>\n</html>\n");
    page.done()
}

fn in_short(page: &mut Markup, services: &[ServiceReport]) {
    let sum = |of: fn(&ServiceReport) -> i64| services.iter().map(of).sum::<i64>();
    let (worked, all) =
        services.iter().map(ServiceReport::worked).fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    let incidents: usize = services.iter().map(|service| service.incidents.total).sum();
    let down: f64 = services.iter().map(|service| service.time_ms.down).sum();
    page.raw("<dl>\n");
    for (name, value) in [
        ("Services", services.len().to_string()),
        ("Availability of all together", percent(worked, all).unwrap_or_else(|| "-".to_owned())),
        ("Downtime of all together", span(down)),
        ("Incidents", incidents.to_string()),
        ("Restarts", sum(|service| service.restarts.done).to_string()),
        ("Restarts avoided by holds", sum(|service| service.restarts.held).to_string()),
    ] {
        page.raw("<div>").element("dt", name).element("dd", &value).raw("</div>\n");
    }
    page.raw("</dl>\n");
}

/// The parts of a bar: the class of its colour, its name, and its length of a service.
type Part = (&'static str, &'static str, fn(&ServiceReport) -> f64);

const PARTS: [Part; 5] = [
    ("good", "available", |service| service.time_ms.healthy),
    ("warn", "degraded", |service| service.time_ms.degraded),
    ("bad", "down", |service| service.time_ms.down),
    ("plan", "planned", |service| service.time_ms.planned()),
    ("none", "not observed", |service| service.time_ms.unknown + service.time_ms.not_observed),
];

fn availability(page: &mut Markup, services: &[ServiceReport]) {
    page.element("h2", "Availability");
    page.raw("<ul class=\"keys\">\n");
    for (class, name, _) in PARTS {
        page.raw("<li><svg class=\"key\" aria-hidden=\"true\"><rect width=\"100%\" height=\"100%\" class=\"");
        page.raw(class).raw("\"/></svg> ").text(name).raw("</li>\n");
    }
    page.raw("</ul>\n");
    let head =
        ["Service", "Availability", "Share of the time", "Down", "Degraded", "Planned", "Not observed"];
    page.table("availability", "100 % means that there was no downtime: nothing is rounded up.", &head);
    for service in services {
        let times = &service.time_ms;
        let (worked, all) = service.worked();
        page.raw("<tr>").row_head(&service.service);
        page.cell(&percent(worked, all).unwrap_or_else(|| "-".to_owned()));
        page.raw("<td>");
        bar(page, service);
        page.raw("</td>");
        page.cell(&span(times.down)).cell(&span(times.degraded)).cell(&span(times.planned()));
        page.cell(&span(times.unknown + times.not_observed)).raw("</tr>\n");
    }
    page.end_table();
}

fn bar(page: &mut Markup, service: &ServiceReport) {
    let whole: f64 = PARTS.iter().map(|(_, _, length)| length(service)).sum();
    if whole <= 0.0 {
        return;
    }
    let words = PARTS.iter().filter(|(_, _, length)| length(service) > 0.0);
    let words: Vec<String> =
        words.map(|(_, name, length)| format!("{name} {}", span(length(service)))).collect();
    page.raw("<svg viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"");
    page.text(&words.join(", ")).raw("\">");
    let mut from = 0.0;
    for (class, _, length) in PARTS {
        let part = length(service) / whole * 1000.0;
        if part > 0.0 {
            // What happened is to be seen, however short it was.
            let shown = part.max(2.0);
            page.raw(&format!(
                "<rect x=\"{from:.2}\" width=\"{shown:.2}\" height=\"10\" class=\"{class}\"/>"
            ));
        }
        from += part;
    }
    page.raw("</svg>");
}

fn before_and_after(page: &mut Markup, services: &[ServiceReport]) {
    let of = |spread: fn(&ServiceReport) -> Option<Spread>| -> Vec<(&ServiceReport, Spread)> {
        services.iter().filter_map(|service| Some((service, spread(service)?))).collect()
    };
    let recovered = of(|service| service.time_to_recover);
    if recovered.is_empty() {
        return;
    }
    let count: usize = recovered.iter().map(|(_, spread)| spread.count).sum();
    let [least, most] = BY_HAND.map(|minutes| span(minutes * MINUTE_MS * count as f64));
    page.element("h2", "Before and after");
    page.raw("<p>").text(&format!(
        "By hand, a recovery takes {:.0} to {:.0} minutes from the fault on: somebody is called, logs in, finds the cause and \
         restarts. This is an assumption, and not measured. For the {count} recoveries of this time, that is {least} to \
         {most} of downtime. What hostprobe measured is below.",
        BY_HAND[0], BY_HAND[1]
    ));
    page.raw("</p>\n");
    let head = [
        "Service",
        "Recoveries",
        "By hand, each",
        "Detected, median",
        "Detected, p95",
        "Recovered, median",
        "Recovered, p95",
    ];
    page.table("before-and-after", "From the fault, by the kernel's clock.", &head);
    for (service, recover) in recovered {
        let detect = service.time_to_detect;
        let figure = |of: fn(Spread) -> f64| detect.map_or("-".to_owned(), |spread| span(of(spread)));
        page.raw("<tr>").row_head(&service.service).cell(&recover.count);
        page.cell(&format!("{:.0} to {:.0} min", BY_HAND[0], BY_HAND[1]));
        page.cell(&figure(|it| it.median_ms)).cell(&figure(|it| it.p95_ms));
        page.cell(&span(recover.median_ms)).cell(&span(recover.p95_ms)).raw("</tr>\n");
    }
    page.end_table();
}

fn verdicts(page: &mut Markup, services: &[ServiceReport]) {
    let mut all: BTreeMap<&str, (usize, Vec<String>)> = BTreeMap::new();
    for service in services {
        for (verdict, count) in &service.incidents.by_verdict {
            let (sum, of) = all.entry(verdict).or_default();
            *sum += count;
            of.push(format!("{} {count}", service.service));
        }
    }
    let most = all.values().map(|(count, _)| *count).max().unwrap_or_default();
    if most == 0 {
        return;
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    page.element("h2", "Incidents by verdict");
    page.table("verdicts", "By their latest verdict.", &["Verdict", "Incidents", "", "Of"]);
    for (verdict, (count, of)) in all {
        let width = count as f64 / most as f64 * 1000.0;
        page.raw("<tr>").row_head(verdict).cell(&count);
        page.raw("<td><svg viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">");
        page.raw(&format!("<rect width=\"{width:.1}\" height=\"10\" class=\"plan\"/></svg></td>"));
        page.word(&of.join(", ")).raw("</tr>\n");
    }
    page.end_table();
}

fn incidents(page: &mut Markup, services: &[ServiceReport]) {
    let with = || services.iter().filter(|service| service.incidents.total > 0);
    if with().next().is_none() {
        return;
    }
    page.element("h2", "Restarts");
    let caption = "A restart is held where it could not help: the cause is elsewhere, the budget is spent, an operator paused it.";
    page.table(
        "restarts",
        caption,
        &["Service", "Incidents", "Restarts", "Failed restarts", "Avoided by holds"],
    );
    for service in with() {
        let restarts = &service.restarts;
        page.raw("<tr>").row_head(&service.service).cell(&service.incidents.total);
        page.cell(&restarts.done).cell(&restarts.failed).cell(&restarts.held).raw("</tr>\n");
    }
    page.end_table();
}

fn open(page: &mut Markup, services: &[ServiceReport]) {
    let mut open = services
        .iter()
        .flat_map(|service| service.incidents.open.iter().map(move |it| (service, it)))
        .peekable();
    if open.peek().is_none() {
        return;
    }
    page.element("h2", "Open incidents");
    page.table("open", "At the end of the period.", &["Service", "Verdict", "Since (UTC)", "Incident"]);
    for (service, incident) in open {
        page.raw("<tr>").row_head(&service.service).word(&incident.verdict);
        page.word(&moment(&incident.since)).word(&incident.id).raw("</tr>\n");
    }
    page.end_table();
}

fn slowest(page: &mut Markup, services: &[ServiceReport]) {
    let mut all: Vec<_> = services
        .iter()
        .flat_map(|service| service.slowest_recoveries.iter().map(move |it| (service, it)))
        .collect();
    all.sort_by(|(_, a), (_, b)| b.took_ms.total_cmp(&a.took_ms).then_with(|| a.since.cmp(&b.since)));
    if all.is_empty() {
        return;
    }
    page.element("h2", "Slowest recoveries");
    page.table("slowest", "", &["Service", "Verdict", "Took", "Since (UTC)", "Incident"]);
    for (service, recovery) in all.into_iter().take(LISTED) {
        page.raw("<tr>").row_head(&service.service).word(&recovery.verdict).cell(&span(recovery.took_ms));
        page.word(&moment(&recovery.since)).word(&recovery.id).raw("</tr>\n");
    }
    page.end_table();
}

fn drills(page: &mut Markup, report: &Report) {
    if report.drills.is_empty() {
        return;
    }
    let figure = |ms: Option<f64>| ms.map_or("-".to_owned(), span);
    page.element("h2", "Drills");
    let caption = "Faults on purpose; they count for none of the figures above.";
    let head = ["Service", "Fault", "Began (UTC)", "Outcome", "Detected", "Alerted", "Recovered"];
    page.table("drills", caption, &head);
    for drill in report.drills.iter().take(LISTED) {
        page.raw("<tr>").row_head(&drill.service).word(drill.fault.as_str()).word(&moment(&drill.began));
        page.word(&drill.outcome.as_str().replace('_', " ")).cell(&figure(drill.detected_ms));
        page.cell(&figure(drill.alerted_ms)).cell(&figure(drill.recovered_ms)).raw("</tr>\n");
    }
    page.end_table();
}

/// A moment of the report, to the second.
fn moment(rfc3339: &str) -> String {
    rfc3339.get(..19).unwrap_or(rfc3339).replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(name: &str) -> Report {
        let spread = serde_json::json!({ "count": 2, "median_ms": 500.0, "p95_ms": 900.0, "max_ms": 900.0 });
        let times = serde_json::json!({ "healthy": 9e7, "degraded": 10.0, "down": 5.0, "stopped": 0.0, "paused": 0.0,
            "maintenance": 0.0, "drilled": 0.0, "unknown": 0.0, "not_observed": 1000.0 });
        let since = "2026-11-28T00:00:00.000Z";
        serde_json::from_value(serde_json::json!({
            "from": since, "to": "2026-11-29T00:00:00Z",
            "services": [{
                "service": name, "time_ms": times, "probes": { "made": 1, "failed": 1 },
                "incidents": { "total": 3, "by_verdict": { name: 3 }, "open": [{ "id": name, "verdict": name, "since": since }] },
                "time_to_detect": spread, "time_to_recover": spread,
                "restarts": { "done": 2, "failed": 0, "held": 7 },
                "slowest_recoveries": [{ "id": name, "verdict": name, "since": since, "took_ms": 900.0 }],
            }],
            "drills": [{ "id": "d", "service": name, "fault": "kill", "outcome": "recovered", "began": since }],
        }))
        .unwrap()
    }

    #[test]
    fn a_hostile_name_is_text_everywhere() {
        let hostile = "</title><script>alert(1)</script>\"'&\u{202e}\n<img src=x onerror=alert(1)>";
        let page = of(&report(hostile), hostile, Some(hostile));
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\u{202e}'), "{page}");
        assert_eq!(page.matches("</title>").count(), 1);
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;\\u{202e}\\n&lt;img"));
    }

    #[test]
    fn the_page_names_no_address_and_no_script() {
        let page = of(&report("web"), "db-1", None);
        for forbidden in
            ["http:", "https:", "//", "src=", "url(", "@import", "<link", "<script", "style=", "onload"]
        {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert!(page.contains("Restarts avoided by holds</dt><dd>7</dd>"), "{page}");
        assert!(
            page.contains("<td>500 ms</td><td>900 ms</td></tr>") && page.contains("10 to 30 min"),
            "{page}"
        );
        assert!(page.contains("20.0 min to 60.0 min of downtime"), "{page}");
    }
}
