//! blackbox_exporter, and the Prometheus that has it probe.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    http::{self, free_port},
    process::Running,
};

/// The exporter's program.
pub const EXPORTER: &str = "/usr/bin/prometheus-blackbox-exporter";
/// The program of the Prometheus that asks it.
pub const PROMETHEUS: &str = "/usr/bin/prometheus";

/// Longest wait until one serves.
const START: Duration = Duration::from_secs(30);

/// The name of the one module in its configuration.
const MODULE: &str = "probe";

const HTTP: &str = "{ prober: http, timeout: 5s, http: { preferred_ip_protocol: ip4 } }";

/// Both, at work; ended when it is dropped.
#[derive(Debug)]
pub struct Blackbox {
    /// Who probes.
    pub exporter: Running,
    /// Who asks for it, every second, and keeps the results.
    pub prometheus: Running,
    /// The loopback port of the exporter.
    port: u16,
    _folder: TempDir,
}

impl Blackbox {
    /// Starts both, to probe HTTP servers on these loopback ports once a second.
    pub fn start(ports: &[u16]) -> Result<Self> {
        let targets: Vec<String> = ports.iter().map(|port| format!("http://127.0.0.1:{port}/")).collect();
        Self::probing(HTTP, &targets)
    }

    /// Starts both, to probe these targets once a second as the module says, such as `{ prober: tcp }`.
    pub fn probing(module: &str, targets: &[String]) -> Result<Self> {
        for (program, package) in [(EXPORTER, "prometheus-blackbox-exporter"), (PROMETHEUS, "prometheus")] {
            ensure!(fs::exists(program)?, "{program} is missing; it is in the package {package}");
        }
        let (folder, port) = (TempDir::new()?, free_port());
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("modules.yml"), format!("modules:\n  {MODULE}: {module}\n"))
            .context("cannot write blackbox_exporter's modules")?;
        let mut exporter = Command::new(EXPORTER);
        exporter
            .arg(format!("--config.file={}", path("modules.yml")))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let exporter = Running::start(&mut exporter, Signal::KILL);
        exporter.wait_until_it_says("Listening on", &exporter.stderr, START);
        fs::write(path("prometheus.yml"), scrapes(targets, port))
            .context("cannot write Prometheus's configuration")?;
        let mut prometheus = Command::new(PROMETHEUS);
        prometheus
            .arg(format!("--config.file={}", path("prometheus.yml")))
            .arg(format!("--storage.tsdb.path={}", path("data")))
            .arg(format!("--web.listen-address=127.0.0.1:{}", free_port()));
        let prometheus = Running::start(&mut prometheus, Signal::KILL);
        prometheus.wait_until_it_says("Server is ready", &prometheus.stderr, START);
        Ok(Self { exporter, prometheus, port, _folder: folder })
    }

    /// Has the exporter probe a target once more; what it has found.
    pub fn probe(&self, target: &str) -> Result<String> {
        Ok(http::get(self.port, &format!("/probe?module={MODULE}&target={target}"))?.1)
    }
}

/// Prometheus's configuration, as blackbox_exporter's documentation has it.
fn scrapes(targets: &[String], exporter: u16) -> String {
    // Targets that are alike are one, unless a label tells them apart.
    let group = |(number, target): (usize, &String)| {
        format!("        - {{ targets: [\"{target}\"], labels: {{ number: \"{number}\" }} }}\n")
    };
    let targets: String = targets.iter().enumerate().map(group).collect();
    format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
         scrape_configs:\n\
         \x20 - job_name: blackbox\n\
         \x20   metrics_path: /probe\n\
         \x20   params: {{ module: [{MODULE}] }}\n\
         \x20   static_configs:\n{targets}\
         \x20   relabel_configs:\n\
         \x20     - {{ source_labels: [__address__], target_label: __param_target }}\n\
         \x20     - {{ source_labels: [__param_target], target_label: instance }}\n\
         \x20     - {{ target_label: __address__, replacement: \"127.0.0.1:{exporter}\" }}\n"
    )
}
