//! `docs/pipelines/prometheus-rules.yml` and `docs/pipelines/grafana-dashboard.json`, generated from the list of the metrics.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::*;
use crate::act::outward_heartbeat::HeartbeatCounts;

const RULES_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pipelines/prometheus-rules.yml");
const DASHBOARD_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pipelines/grafana-dashboard.json");

/// A metric as `/metrics` names it.
struct Listed {
    name: String,
    kind: String,
    help: String,
}

/// All metrics. A family is described only while it has a sample, so each fact is counted that there is.
fn list() -> Vec<Listed> {
    let metrics = Metrics::new(samples::names());
    metrics.alerting(
        &[("oncall".to_owned(), 1)],
        Some(HeartbeatCounts { sent: 1, ..HeartbeatCounts::default() }),
    );
    metrics.table("exits", 1, 2);
    metrics.observe(&samples::recovered(std::time::Duration::from_millis(200)));
    let mut listed = BTreeMap::new();
    for fact in samples::facts() {
        metrics.observe(&fact);
        if let Fact::Growth(growth, service) = &fact {
            metrics.growth(*service, std::slice::from_ref(growth));
        }
        describe(&metrics.encode(Format::Plain), &mut listed);
    }
    listed.into_values().collect()
}

/// Adds the metrics that a text describes.
fn describe(text: &str, listed: &mut BTreeMap<String, Listed>) {
    let mut help = String::new();
    for line in text.lines() {
        let Some((word, (name, rest))) = line
            .strip_prefix("# ")
            .and_then(|line| line.split_once(' '))
            .and_then(|(word, rest)| Some((word, rest.split_once(' ')?)))
        else {
            continue;
        };
        if word == "HELP" {
            help = rest.trim_end_matches('.').to_owned();
        } else if !listed.contains_key(name) {
            let it = Listed { name: name.to_owned(), kind: rest.to_owned(), help: help.clone() };
            listed.insert(name.to_owned(), it);
        }
    }
}

/// The names that are registered in the source, without what the format adds.
fn registered() -> Vec<&'static str> {
    let sources = [include_str!("../../metrics.rs"), include_str!("../alerts.rs")];
    let calls = sources.into_iter().flat_map(|source| source.split("register(").skip(1));
    calls.filter_map(|call| call.trim_start().strip_prefix('"')?.split('"').next()).collect()
}

struct Rule {
    name: &'static str,
    expression: &'static str,
    lasts: &'static str,
    severity: &'static str,
    summary: &'static str,
}

/// hostprobe alerts by itself, sooner and with its evidence. These are for what it cannot tell: that it is silent, and for those
/// who want all alerts in one place.
const RULES: [Rule; 13] = [
    Rule {
        name: "HostprobeSilent",
        expression: "up{job=\"hostprobe\"} == 0",
        lasts: "2m",
        severity: "critical",
        summary: "hostprobe on {{ $labels.instance }} does not answer",
    },
    Rule {
        name: "HostprobeRestartsOften",
        expression: "changes(process_start_time_seconds{job=\"hostprobe\"}[15m]) > 2",
        lasts: "0m",
        severity: "warning",
        summary: "hostprobe on {{ $labels.instance }} was started {{ $value }} times in 15 minutes",
    },
    Rule {
        name: "HostprobeServiceDown",
        expression: "max by (instance, service) (hostprobe_service_state{state=~\"down|unhealthy\"}) == 1",
        lasts: "1m",
        severity: "critical",
        summary: "{{ $labels.service }} on {{ $labels.instance }} is down or unhealthy",
    },
    Rule {
        name: "HostprobeServiceDegraded",
        expression: "max by (instance, service) (hostprobe_service_state{state=\"degraded\"}) == 1",
        lasts: "15m",
        severity: "warning",
        summary: "{{ $labels.service }} on {{ $labels.instance }} works, but not as it should",
    },
    Rule {
        name: "HostprobeRestartHeld",
        expression: "increase(hostprobe_restarts_total{outcome=\"hold\"}[15m]) > 0",
        lasts: "0m",
        severity: "warning",
        summary: "{{ $labels.service }} on {{ $labels.instance }} is not restarted; `hostprobe explain` says why",
    },
    Rule {
        name: "HostprobeRestartFails",
        expression: "increase(hostprobe_restarts_total{outcome=\"fail\"}[15m]) > 0",
        lasts: "0m",
        severity: "critical",
        summary: "{{ $labels.service }} on {{ $labels.instance }} could not be restarted",
    },
    Rule {
        name: "HostprobeOomKill",
        expression: "increase(hostprobe_oom_kills_total{service!=\"\"}[15m]) > 0",
        lasts: "0m",
        severity: "warning",
        summary: "the kernel killed a process of {{ $labels.service }} on {{ $labels.instance }}: its memory ran out",
    },
    Rule {
        name: "HostprobeHostTrouble",
        expression: "hostprobe_host_trouble == 1",
        lasts: "5m",
        severity: "warning",
        summary: "{{ $labels.instance }}: {{ $labels.check }} {{ $labels.target }} is at its limit",
    },
    Rule {
        name: "HostprobeResourceRunsOut",
        expression: "hostprobe_resource_time_left_seconds < 4 * 3600",
        lasts: "10m",
        severity: "warning",
        summary: "{{ $labels.resource }} of {{ $labels.service }} on {{ $labels.instance }} lasts {{ $value | humanizeDuration }}",
    },
    Rule {
        name: "HostprobeAlertsWait",
        expression: "hostprobe_alerts_waiting > 0",
        lasts: "10m",
        severity: "critical",
        summary: "{{ $value }} alerts on {{ $labels.instance }} do not reach {{ $labels.receiver }}",
    },
    Rule {
        name: "HostprobeEventsLost",
        expression: "increase(hostprobe_events_lost_total[15m]) > 0",
        lasts: "0m",
        severity: "warning",
        summary: "{{ $labels.class }} of {{ $labels.instance }} were lost; a reader of the stream is too slow or away",
    },
    Rule {
        name: "HostprobeHookMissing",
        expression: "hostprobe_hook_attached == 0",
        lasts: "15m",
        severity: "warning",
        summary: "hostprobe on {{ $labels.instance }} lacks the hook {{ $labels.hook }}; `hostprobe doctor` says why",
    },
    Rule {
        name: "HostprobeTableFull",
        expression: "hostprobe_table_entries / hostprobe_table_limit > 0.9",
        lasts: "10m",
        severity: "warning",
        summary: "the table {{ $labels.table }} of hostprobe on {{ $labels.instance }} is nearly full",
    },
];

fn rules() -> String {
    let mut page = "# Alerts of Prometheus on the metrics of hostprobe. Generated:\n\
                    # UPDATE_DOCS=1 cargo test -p hostprobe --lib docs_monitoring\n\
                    groups:\n  - name: hostprobe\n    rules:\n"
        .to_owned();
    for Rule { name, expression, lasts, severity, summary } in RULES {
        // A string of JSON is one of YAML.
        let (expression, summary) = (json!(expression), json!(summary));
        writeln!(
            page,
            "      - alert: {name}\n        expr: {expression}\n        for: {lasts}\n        labels:\n          \
             severity: {severity}\n        annotations:\n          summary: {summary}"
        )
        .unwrap();
    }
    page
}

/// Figures on top of the dashboard: title and expression.
const FIRST: [(&str, &str); 6] = [
    ("Services down", "sum(hostprobe_service_state{instance=~\"$instance\",state=~\"down|unhealthy\"})"),
    ("Services healthy", "sum(hostprobe_service_state{instance=~\"$instance\",state=\"healthy\"})"),
    ("Incidents, 24 h", "sum(increase(hostprobe_incidents_total{instance=~\"$instance\"}[24h]))"),
    (
        "Restarts, 24 h",
        "sum(increase(hostprobe_restarts_total{instance=~\"$instance\",outcome=\"done\"}[24h]))",
    ),
    (
        "Restarts held, 24 h",
        "sum(increase(hostprobe_restarts_total{instance=~\"$instance\",outcome=\"hold\"}[24h]))",
    ),
    ("Events lost, 24 h", "sum(increase(hostprobe_events_lost_total{instance=~\"$instance\"}[24h]))"),
];

/// The rows below, each with the beginnings of the names in it; the first that fits counts.
const ROWS: [(&str, &[&str]); 5] = [
    ("Probes", &["probe_", "hostprobe_server_"]),
    ("The daemon", &["process_", "hostprobe_build", "hostprobe_hook", "hostprobe_table", "hostprobe_events"]),
    ("Alerts", &["hostprobe_alert", "hostprobe_heartbeat"]),
    ("Host and kernel", &["hostprobe_host", "hostprobe_process", "hostprobe_oom", "hostprobe_socket"]),
    ("Services", &["hostprobe_"]),
];

fn dashboard() -> Value {
    let source = json!({ "type": "prometheus", "uid": "${datasource}" });
    let mut panels = Vec::new();
    let mut add = |kind: &str, title: &str, targets: Value, unit: &str, place: [usize; 4]| {
        let [x, y, w, h] = place;
        panels.push(json!({
            "id": panels.len() + 1,
            "type": kind,
            "title": title,
            "datasource": source,
            "gridPos": { "x": x, "y": y, "w": w, "h": h },
            "fieldConfig": { "defaults": { "unit": unit }, "overrides": [] },
            "targets": targets,
        }));
    };
    let target = |expression: &str| json!([{ "refId": "A", "expr": expression, "legendFormat": "__auto" }]);
    for (at, (title, expression)) in FIRST.iter().enumerate() {
        add("stat", title, target(expression), "short", [at * 4, 0, 4, 4]);
    }
    let (list, mut y) = (list(), 4);
    let row_of =
        |name: &str| ROWS.iter().position(|(_, begins)| begins.iter().any(|it| name.starts_with(it)));
    for (row, (title, _)) in ROWS.iter().enumerate().rev() {
        add("row", title, json!([]), "short", [0, y, 24, 1]);
        y += 1;
        let of_row: Vec<&Listed> = list.iter().filter(|it| row_of(&it.name) == Some(row)).collect();
        for (at, metric) in of_row.iter().enumerate() {
            let (expression, unit) = shown(metric);
            let ago = if expression.starts_with("time()") { " (how long ago)" } else { "" };
            let title = format!("{}{ago}", metric.help);
            add("timeseries", &title, target(&expression), unit, [at % 2 * 12, y + at / 2 * 8, 12, 8]);
        }
        y += of_row.len().div_ceil(2) * 8;
    }
    let variable = |name: &str, query: &str| {
        json!({
            "name": name, "type": "query", "datasource": source, "query": query, "refresh": 2, "multi": true,
            "includeAll": true, "allValue": ".*", "current": { "text": "All", "value": "$__all" },
        })
    };
    json!({
        "title": "hostprobe",
        "uid": "hostprobe",
        "tags": ["hostprobe"],
        "schemaVersion": 39,
        "editable": true,
        "refresh": "30s",
        "time": { "from": "now-6h", "to": "now" },
        "templating": { "list": [
            { "name": "datasource", "type": "datasource", "query": "prometheus" },
            variable("instance", "label_values(hostprobe_build_info, instance)"),
        ] },
        "panels": panels,
    })
}

/// How a metric is shown, and in which unit.
fn shown(metric: &Listed) -> (String, &'static str) {
    let Listed { name, kind, .. } = metric;
    let of = "instance=~\"$instance\"";
    match kind.as_str() {
        "counter" => (format!("rate({name}{{{of}}}[$__rate_interval])"), "ops"),
        "histogram" => {
            let rate = format!("rate({name}_bucket{{{of}}}[$__rate_interval])");
            (format!("histogram_quantile(0.95, sum by (le, service) ({rate}))"), "s")
        }
        "gauge" if name.ends_with("_time_seconds") || name.ends_with("_timestamp_seconds") => {
            (format!("time() - {name}{{{of}}}"), "s")
        }
        "gauge" if name.ends_with("_seconds") => (format!("{name}{{{of}}}"), "s"),
        "gauge" if name.ends_with("_bytes") => (format!("{name}{{{of}}}"), "bytes"),
        "gauge" => (format!("{name}{{{of}}}"), "short"),
        other => panic!("{name}: how is a {other} shown?"),
    }
}

#[track_caller]
fn written(file: &str, expected: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(file, expected).unwrap();
    }
    let found = std::fs::read_to_string(file).unwrap_or_default();
    assert!(found == expected, "{file} is out of date: run this test with UPDATE_DOCS=1");
}

#[test]
fn docs_monitoring_has_the_rules_and_the_dashboard_of_the_metrics() {
    written(RULES_FILE, &rules());
    written(DASHBOARD_FILE, &format!("{:#}\n", dashboard()));
}

#[test]
fn each_metric_has_a_place_on_the_dashboard_and_no_rule_names_another_one() {
    let (dashboard, list) = (dashboard().to_string(), list());
    let registered = registered();
    assert!(registered.len() > 20, "{registered:?}");
    for name in registered {
        let is_listed = |metric: &Listed| metric.name.trim_start_matches("hostprobe_").starts_with(name);
        assert!(list.iter().any(is_listed), "{name} has no sample here, and so no place on the dashboard");
    }
    for metric in &list {
        assert!(dashboard.contains(&metric.name), "{}", metric.name);
        assert!(
            ROWS.iter().any(|(_, begins)| begins.iter().any(|it| metric.name.starts_with(it))),
            "{}",
            metric.name
        );
    }
    for Rule { expression, .. } in RULES {
        let mut words = expression.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
        let is_known = |word: &str| list.iter().any(|metric| metric.name == word);
        let own = words
            .find(|word| word.starts_with("hostprobe_") || word.starts_with("process_") || *word == "up");
        assert!(own.is_some_and(|word| word == "up" || is_known(word)), "{expression}");
    }
}
