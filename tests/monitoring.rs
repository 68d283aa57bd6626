//! The alert rules and the dashboard that are shipped, held against Prometheus' own tool and against a daemon's metrics.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use hostprobe_tests::{
    daemon::Daemon,
    http::{self, free_port},
    operator::Home,
    parts::{require, require_root},
    process::until,
    supervised::Supervised,
};
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// What a daemon has only with a database, a leak, errors of sockets, an alert that arrived, or trouble of the host. That they are
/// registered is held by a unit test.
const RARE: [&str; 5] = [
    "hostprobe_server_measure",
    "hostprobe_resource_time_left_seconds",
    "hostprobe_socket_errors_total",
    "hostprobe_alert_last_success_timestamp_seconds",
    "hostprobe_host_trouble",
];

const PROMTOOL: &str = "/usr/bin/promtool";

fn shipped(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pipelines")).join(name)
}

#[track_caller]
fn promtool(words: &[&str]) -> String {
    let output = Command::new(PROMTOOL).args(words).output().expect("promtool runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {words:?}: {said}");
    said
}

/// What each rule says of made-up figures: a minute is one step.
const CASES: &str = r#"
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: 'up{job="hostprobe",instance="a:9464"}'
        values: '1 1 0x10'
      - series: 'hostprobe_service_state{instance="a:9464",service="api",state="down"}'
        values: '0 0 1x3 0x10'
      - series: 'hostprobe_service_state{instance="a:9464",service="api",state="healthy"}'
        values: '1 1 0x3 1x10'
      - series: 'hostprobe_restarts_total{instance="a:9464",service="api",outcome="hold"}'
        values: '0 0 1x20'
      - series: 'hostprobe_restarts_total{instance="a:9464",service="api",outcome="fail"}'
        values: '0x20'
      - series: 'hostprobe_resource_time_left_seconds{instance="a:9464",service="api",resource="memory"}'
        values: '20000x5 7200x20'
    alert_rule_test:
      - alertname: HostprobeSilent
        eval_time: 3m
      - alertname: HostprobeSilent
        eval_time: 5m
        exp_alerts:
          - exp_labels: { severity: critical, job: hostprobe, instance: "a:9464" }
            exp_annotations: { summary: "hostprobe on a:9464 does not answer" }
      - alertname: HostprobeServiceDown
        eval_time: 2m
      - alertname: HostprobeServiceDown
        eval_time: 4m
        exp_alerts:
          - exp_labels: { severity: critical, instance: "a:9464", service: api }
            exp_annotations: { summary: "api on a:9464 is down or unhealthy" }
      - alertname: HostprobeServiceDown
        eval_time: 8m
      - alertname: HostprobeRestartHeld
        eval_time: 3m
        exp_alerts:
          - exp_labels: { severity: warning, instance: "a:9464", service: api, outcome: hold }
            exp_annotations: { summary: "api on a:9464 is not restarted; `hostprobe explain` says why" }
      - alertname: HostprobeRestartFails
        eval_time: 3m
      - alertname: HostprobeResourceRunsOut
        eval_time: 10m
      - alertname: HostprobeResourceRunsOut
        eval_time: 17m
        exp_alerts:
          - exp_labels: { severity: warning, instance: "a:9464", service: api, resource: memory }
            exp_annotations: { summary: "memory of api on a:9464 lasts 2h 0m 0s" }
"#;

#[test]
fn prometheus_takes_the_rules_and_they_fire_when_they_should() {
    if !require("prometheus", PROMTOOL) {
        return;
    }
    let rules = shipped("prometheus-rules.yml");
    let said = promtool(&["check", "rules", &rules.display().to_string()]);
    assert!(said.contains("13 rules found"), "{said}");
    let folder = TempDir::new().expect("a temporary folder");
    let cases = folder.path().join("cases.yml");
    fs::write(&cases, format!("rule_files: [{rules:?}]\n{CASES}")).expect("it is written");
    let said = promtool(&["test", "rules", &cases.display().to_string()]);
    assert!(said.contains("SUCCESS"), "{said}");
}

#[test]
fn a_daemon_has_every_metric_that_the_rules_and_the_dashboard_name() {
    if !require_root() {
        return;
    }
    let (home, service, port, closed) = (Home::new(), Supervised::new(), free_port(), free_port());
    let config =
        home.supervising(&service).replace("listen = \"\"", &format!("listen = \"127.0.0.1:{port}\""));
    let config = format!(
        "{config}\n[heartbeat]\nurl = \"http://127.0.0.1:{closed}/\"\ninterval = \"1s\"\n\
         [[alert]]\nname = \"oncall\"\nwebhook = \"http://127.0.0.1:{closed}/\"\n"
    );
    let daemon = Daemon::start(&config, &[]);
    service.until_healthy(&daemon);
    service.kill(&daemon);
    let described = |metrics: &str, name: &str| {
        let family = name.trim_end_matches("_bucket");
        metrics.lines().any(|line| line.starts_with(&format!("# TYPE {family} ")))
    };
    let awaited =
        ["hostprobe_recovery_seconds", "hostprobe_alerts_total", "hostprobe_heartbeats_elsewhere_total"];
    let metrics = until("the metrics of a recovery and an alert", PATIENCE, || {
        let (_, metrics) = http::get(port, "/metrics").expect("they are served");
        awaited.iter().all(|name| described(&metrics, name)).then_some(metrics)
    });
    let has = |name: &str| RARE.contains(&name) || described(&metrics, name);
    let dashboard = fs::read_to_string(shipped("grafana-dashboard.json")).expect("a file");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("a list");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut expressions: Vec<String> =
        targets.filter_map(|target| target["expr"].as_str()).map(str::to_owned).collect();
    assert!(expressions.len() > 25, "{} expressions", expressions.len());
    let rules = fs::read_to_string(shipped("prometheus-rules.yml")).expect("a file");
    expressions
        .extend(rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned));
    for expression in &expressions {
        let words = expression.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
        let mut named =
            words.filter(|word| ["hostprobe_", "process_", "probe_"].iter().any(|it| word.starts_with(it)));
        assert!(named.clone().next().is_some() || expression.contains("up{"), "{expression}");
        assert!(named.all(has), "{expression}\n{metrics}");
    }
}
