//! What hostprobe can see and do on this host, hook by hook, and what is to be done about the rest.
//!
//! It attaches and opens everything as the daemon does, and then closes it: each result is from a real attempt.

mod check;
mod checks;
mod containers;
mod receivers;

use serde::Serialize;

pub use self::{
    check::{Check, State},
    receivers::ReceiverCheck,
};
use crate::{
    clock::Timestamp,
    config::Config,
    emit::Origin,
    fact::ProbeKind,
    host::{ProcReader, ReadError},
    sensor::{
        Sensors,
        ebpf::{Hook, Options},
    },
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub version: String,
    pub host: String,
    /// The running kernel's release, and the machine it is for.
    pub kernel: String,
    /// Full if nothing is degraded.
    pub coverage: State,
    pub hooks: Vec<Check>,
    pub host_checks: Vec<Check>,
    /// The receivers of the configuration's alerts.
    pub receivers: Vec<ReceiverCheck>,
}

impl Report {
    /// Its lines, for a person with ten seconds.
    pub fn lines(&self) -> Vec<String> {
        let attached = self.hooks.iter().filter(|hook| hook.state == State::Full).count();
        let possible = self.hooks.iter().filter(|hook| hook.state != State::Absent).count();
        let coverage = match self.coverage {
            State::Full | State::Absent => "full coverage",
            State::Degraded => "degraded",
        };
        let Self { version, host, kernel, hooks, .. } = self;
        let mut lines = vec![format!(
            "hostprobe {version} on {host}, Linux {kernel}: {coverage}, {attached} of {possible} hooks"
        )];
        let receivers: Vec<Check> = self.receivers.iter().map(|receiver| receiver.check.clone()).collect();
        let mut parts = vec![("hooks", hooks), ("host", &self.host_checks)];
        if !receivers.is_empty() {
            parts.push(("receivers of alerts", &receivers));
        }
        for (title, checks) in parts {
            let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or_default();
            lines.extend([String::new(), title.to_owned()]);
            lines.extend(checks.iter().flat_map(|check| check.lines(width)));
        }
        lines
    }
}

/// Checks everything, `without` some hooks, and of a configuration, if there is one, what its probes need and whether the
/// receivers of its alerts can be reached. Needs a Tokio runtime with I/O and time enabled.
///
/// Fails where nothing can run: `/proc` cannot be read, or there are no descriptors left.
pub async fn examine(without: Vec<Hook>, config: Option<&Config>) -> Result<Report, ReadError> {
    let reader = ProcReader::new("/")?;
    reader.scan()?;
    let options = Options { without, host_reports: true, ..Options::default() };
    let mut sensors = Sensors::open(&options, &reader, Timestamp::now())
        .map_err(|source| ReadError { path: "/proc/self/fd".into(), source })?;
    let hooks: Vec<Check> = sensors.coverage().iter().map(checks::hook).collect();
    let mut host_checks = vec![
        checks::rights(),
        checks::types(),
        checks::self_test(&mut sensors, &reader).await,
        checks::place(),
        checks::cgroups(&reader),
        checks::systemd().await,
        checks::pressure(&reader),
        checks::host_checks(),
    ];
    host_checks.extend(containers::engines(config, &reader).await);
    let mut probes =
        config.into_iter().flat_map(|config| &config.services).flat_map(|service| &service.probes);
    if probes.any(|probe| probe.kind == ProbeKind::Icmp) {
        host_checks.push(checks::icmp());
    }
    if let Some(fleet) = config.and_then(|config| config.fleet.as_ref()) {
        host_checks.push(checks::fleet(fleet, &Origin::read("/proc".as_ref()).host_name).await);
    }
    let receivers = match config {
        Some(config) => receivers::all(config).await,
        None => Vec::new(),
    };
    let degraded = hooks.iter().chain(&host_checks).any(|check| check.state == State::Degraded)
        || receivers.iter().any(ReceiverCheck::is_degraded);
    let uname = rustix::system::uname();
    Ok(Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: Origin::read("/proc".as_ref()).host_name,
        kernel: format!("{} {}", uname.release().to_string_lossy(), uname.machine().to_string_lossy()),
        coverage: if degraded { State::Degraded } else { State::Full },
        hooks,
        host_checks,
        receivers,
    })
}
