//! The other tools, as their documentation sets them up, and where their messages go.

use std::{collections::BTreeMap, fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{http::free_port, process::Running};

const PROMETHEUS: &str = "/usr/bin/prometheus";
const EXPORTER: &str = "/usr/bin/prometheus-blackbox-exporter";
const ALERTMANAGER: &str = "/usr/bin/prometheus-alertmanager";
const AIOSMTPD: &str = "/usr/lib/python3/dist-packages/aiosmtpd/controller.py";

/// The longest that a program may take to begin.
const START: Duration = Duration::from_secs(60);

/// The rules, in the form that blackbox_exporter's users know them.
pub const RULES: &str = r#"groups:
  - name: blackbox
    rules:
      - alert: BlackboxProbeFailed
        expr: probe_success == 0
        for: 1m
      - alert: BlackboxSlowProbe
        expr: avg_over_time(probe_duration_seconds[1m]) > 1
        for: 1m
"#;

/// Where alerts go by: Alertmanager's example has these times and this grouping.
pub const ROUTE: &str =
    "group_by: [alertname, cluster, service], group_wait: 30s, group_interval: 5m, repeat_interval: 3h";

/// What is probed, how, and of which service it is.
#[derive(Clone, Debug)]
pub struct Target {
    pub service: &'static str,
    /// `http_2xx` or `tcp_connect`.
    pub module: &'static str,
    pub address: String,
}

/// blackbox_exporter and the Prometheus that asks it and has the rules.
#[derive(Debug)]
pub struct Prometheus {
    _exporter: Running,
    _prometheus: Running,
    _folder: TempDir,
}

impl Prometheus {
    pub fn start(alertmanager: u16, targets: &[Target]) -> Result<Self> {
        for (program, package) in [(EXPORTER, "prometheus-blackbox-exporter"), (PROMETHEUS, "prometheus")] {
            ensure!(fs::exists(program)?, "{program} is missing; it is in the package {package}");
        }
        let (folder, port) = (TempDir::new()?, free_port());
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(
            path("modules.yml"),
            "modules:\n  http_2xx: { prober: http, timeout: 5s }\n  tcp_connect: { prober: tcp, timeout: 5s }\n",
        )?;
        let mut exporter = Command::new(EXPORTER);
        exporter.arg(format!("--config.file={}", path("modules.yml")));
        let exporter =
            Running::start(exporter.arg(format!("--web.listen-address=127.0.0.1:{port}")), Signal::KILL);
        exporter.wait_until_it_says("Listening on", &exporter.stderr, START);
        fs::write(path("rules.yml"), RULES)?;
        fs::write(path("prometheus.yml"), configuration(alertmanager, port, targets, &path("rules.yml")))?;
        let mut prometheus = Command::new(PROMETHEUS);
        prometheus
            .arg(format!("--config.file={}", path("prometheus.yml")))
            .arg(format!("--storage.tsdb.path={}", path("data")))
            .arg(format!("--web.listen-address=127.0.0.1:{}", free_port()));
        let prometheus = Running::start(&mut prometheus, Signal::KILL);
        prometheus.wait_until_it_says("Server is ready", &prometheus.stderr, START);
        Ok(Self { _exporter: exporter, _prometheus: prometheus, _folder: folder })
    }
}

/// Its configuration, with the intervals of Debian's example and the relabelling of blackbox_exporter's documentation.
fn configuration(alertmanager: u16, exporter: u16, targets: &[Target], rules: &str) -> String {
    let mut text = format!(
        "global: {{ scrape_interval: 15s, evaluation_interval: 15s }}\nrule_files: [{rules:?}]\n\
         alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: [\"127.0.0.1:{alertmanager}\"] }}] }}] }}\n\
         scrape_configs:\n"
    );
    for module in ["http_2xx", "tcp_connect"] {
        text += &format!(
            "  - job_name: {module}\n    metrics_path: /probe\n    params: {{ module: [{module}] }}\n    static_configs:\n"
        );
        for Target { service, address, .. } in targets.iter().filter(|target| target.module == module) {
            text += &format!("      - {{ targets: [{address:?}], labels: {{ service: {service} }} }}\n");
        }
        text += &format!(
            "    relabel_configs:\n      - {{ source_labels: [__address__], target_label: __param_target }}\n      \
             - {{ source_labels: [__param_target], target_label: instance }}\n      \
             - {{ target_label: __address__, replacement: \"127.0.0.1:{exporter}\" }}\n"
        );
    }
    text
}

/// An Alertmanager that posts to a webhook.
#[derive(Debug)]
pub struct Alertmanager {
    pub port: u16,
    _process: Running,
    _folder: TempDir,
}

impl Alertmanager {
    pub fn start(webhook: u16) -> Result<Self> {
        ensure!(
            fs::exists(ALERTMANAGER)?,
            "{ALERTMANAGER} is missing; it is in the package prometheus-alertmanager"
        );
        let (folder, port) = (TempDir::new()?, free_port());
        let config = folder.path().join("alertmanager.yml");
        let text = format!(
            "route: {{ receiver: person, {ROUTE} }}\n\
             receivers: [{{ name: person, webhook_configs: [{{ url: \"http://127.0.0.1:{webhook}/\" }}] }}]\n"
        );
        fs::write(&config, text).context("cannot write Alertmanager's configuration")?;
        let mut command = Command::new(ALERTMANAGER);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=");
        let process = Running::start(&mut command, Signal::KILL);
        process.wait_until_it_says("Listening on", &process.stderr, START);
        Ok(Self { port, _process: process, _folder: folder })
    }
}

/// A mail server that prints what it gets, and takes what Monit sends.
#[derive(Debug)]
pub struct Mailbox {
    port: u16,
    process: Running,
}

impl Mailbox {
    pub fn start() -> Result<Self> {
        ensure!(fs::exists(AIOSMTPD)?, "{AIOSMTPD} is missing; it is in the package python3-aiosmtpd");
        let port = free_port();
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-u", "-m", "aiosmtpd", "-n", "-l", &format!("127.0.0.1:{port}")]);
        let process = Running::start(&mut command, Signal::KILL);
        crate::process::until("the mail server listens", START, || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Ok(Self { port, process })
    }

    /// Monit's settings for it.
    pub fn settings(&self) -> String {
        format!("set mailserver 127.0.0.1 port {}\nset alert person@example.org\n", self.port)
    }

    /// The mails about each service, whose name ends Monit's subjects (`monit alert -- EVENT SERVICE`).
    pub fn by_service(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        let lines = self.process.stdout.all();
        let subjects = lines.iter().filter_map(|line| line.strip_prefix("Subject: monit alert -- "));
        for service in subjects.filter_map(|subject| subject.split_whitespace().next_back()) {
            *counts.entry(service.to_owned()).or_default() += 1;
        }
        counts
    }
}
