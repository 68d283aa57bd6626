//! blackbox_exporter, and the Prometheus that has it probe.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{http::free_port, process::Running};

/// The exporter's program.
pub const EXPORTER: &str = "/usr/bin/prometheus-blackbox-exporter";
/// The program of the Prometheus that asks it.
pub const PROMETHEUS: &str = "/usr/bin/prometheus";

/// Longest wait until one serves.
const START: Duration = Duration::from_secs(30);

const MODULES: &str =
    "modules:\n  http_2xx:\n    prober: http\n    timeout: 5s\n    http: { preferred_ip_protocol: ip4 }\n";

/// Both, at work; ended when it is dropped.
#[derive(Debug)]
pub struct Blackbox {
    /// Who probes.
    pub exporter: Running,
    /// Who asks for it, every second, and keeps the results.
    pub prometheus: Running,
    _folder: TempDir,
}

impl Blackbox {
    /// Starts both, to probe HTTP servers on these loopback ports once a second.
    pub fn start(ports: &[u16]) -> Result<Self> {
        for (program, package) in [(EXPORTER, "prometheus-blackbox-exporter"), (PROMETHEUS, "prometheus")] {
            ensure!(fs::exists(program)?, "{program} is missing; it is in the package {package}");
        }
        let (folder, port) = (TempDir::new()?, free_port());
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("modules.yml"), MODULES).context("cannot write blackbox_exporter's modules")?;
        let mut exporter = Command::new(EXPORTER);
        exporter
            .arg(format!("--config.file={}", path("modules.yml")))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let exporter = Running::start(&mut exporter, Signal::KILL);
        exporter.wait_until_it_says("Listening on", &exporter.stderr, START);
        fs::write(path("prometheus.yml"), scrapes(ports, port))
            .context("cannot write Prometheus's configuration")?;
        let mut prometheus = Command::new(PROMETHEUS);
        prometheus
            .arg(format!("--config.file={}", path("prometheus.yml")))
            .arg(format!("--storage.tsdb.path={}", path("data")))
            .arg(format!("--web.listen-address=127.0.0.1:{}", free_port()));
        let prometheus = Running::start(&mut prometheus, Signal::KILL);
        prometheus.wait_until_it_says("Server is ready", &prometheus.stderr, START);
        Ok(Self { exporter, prometheus, _folder: folder })
    }
}

/// Prometheus's configuration, as blackbox_exporter's documentation has it.
fn scrapes(ports: &[u16], exporter: u16) -> String {
    let targets: String = ports.iter().map(|port| format!("        - http://127.0.0.1:{port}/\n")).collect();
    format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
         scrape_configs:\n\
         \x20 - job_name: blackbox\n\
         \x20   metrics_path: /probe\n\
         \x20   params: {{ module: [http_2xx] }}\n\
         \x20   static_configs:\n\
         \x20     - targets:\n{targets}\
         \x20   relabel_configs:\n\
         \x20     - {{ source_labels: [__address__], target_label: __param_target }}\n\
         \x20     - {{ source_labels: [__param_target], target_label: instance }}\n\
         \x20     - {{ target_label: __address__, replacement: \"127.0.0.1:{exporter}\" }}\n"
    )
}
