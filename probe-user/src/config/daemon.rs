//! What the daemon as a whole runs on.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{exec::Exec, hook::Hook, probe::Probe, secret::Secret, service::Service};
use crate::{
    fact::{RestartBudget, ServiceId, Severity},
    redact,
};

/// Everything the daemon runs on.
#[derive(Clone, Debug)]
pub struct Config {
    pub events: EventOutput,
    /// The address of health and metrics; None: not served.
    pub http: Option<SocketAddr>,
    /// The control socket; None: no socket.
    pub control: Option<PathBuf>,
    /// The group whose members may use the control socket, besides root and the daemon's own user.
    pub control_group: Option<String>,
    /// The receivers of incidents.
    pub alerts: Vec<AlertReceiver>,
    /// The user's own programs.
    pub hooks: Vec<Hook>,
    /// The restart budget of all services together.
    pub restart_budget: RestartBudget,
    /// The services, in the order of their ids.
    pub services: Vec<Service>,
    pub kernel: KernelOptions,
    pub snapshots: SnapshotOptions,
    pub state: StateOptions,
    /// What commands under `exec` do when the daemon ends; None: what fits to how the daemon was started.
    pub on_exit: Option<OnExit>,
    /// What the operator should know of this valid configuration, one sentence each.
    pub warnings: Vec<String>,
}

impl Config {
    /// How long its commands may take to end after they were asked to, at least the default.
    pub fn longest_stop(&self) -> Duration {
        let commands = self.services.iter().filter_map(Service::exec);
        let longest = commands.map(|exec| exec.stop_timeout).max().unwrap_or_default();
        longest.max(Exec::default().stop_timeout)
    }

    /// The first id that no service of it has.
    pub fn next_id(&self) -> u32 {
        self.services.last().map_or(0, |service| service.id.0 + 1)
    }

    /// A service; None if there is none with this id any more.
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        let at = self.services.binary_search_by_key(&id, |service| service.id).ok()?;
        self.services.get(at)
    }

    /// A service's name; `?` if there is none with this id any more.
    pub fn name_of(&self, id: ServiceId) -> &str {
        self.service(id).map_or("?", |service| &service.name)
    }

    /// Its passwords and tokens, which no output may hold.
    pub fn secrets(&self) -> Vec<String> {
        let probes = self.services.iter().flat_map(|service| &service.probes);
        let mut secrets: Vec<String> = probes.flat_map(Probe::secrets).collect();
        let variables = self.services.iter().flat_map(Service::environment);
        let named = variables.filter(|(name, _)| redact::is_secret_name(name));
        secrets.extend(named.map(|(_, value)| value.expose().to_owned()));
        for AlertReceiver { webhook, .. } in &self.alerts {
            secrets.extend(webhook.parts());
            secrets.extend(webhook.path_tokens());
        }
        secrets
    }
}

/// What commands under `exec` do when the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// They run on, and the next daemon takes them over.
    Leave,
    /// They end before the daemon does.
    Stop,
}

/// Where events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventOutput {
    Stdout,
    /// A file, rotated by size.
    File(PathBuf),
}

/// The kernel side's buffers and budgets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelOptions {
    /// Size of the ring that wakes the daemon at once, in bytes: a power of two, at least 64 KiB.
    pub urgent_ring_bytes: u32,
    /// Size of the ring that is read about once a second, in bytes: a power of two, at least 64 KiB.
    pub bulk_ring_bytes: u32,
    /// Exits of unwatched processes that are reported a second and cgroup; further ones are counted only.
    pub unwatched_exits_per_second: u32,
}

/// Where snapshots of services that hang are kept, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    pub directory: PathBuf,
    /// How many are kept, the newest; older ones are deleted.
    pub keep: u32,
}

/// Where the daemon keeps its state, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateOptions {
    pub directory: PathBuf,
    /// The size of the recording, in bytes; 0 turns it off.
    pub recording_bytes: u64,
    /// How long incidents are kept after their end, and what services did.
    pub keep: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AlertReceiver {
    pub webhook: Secret,
    pub format: AlertFormat,
    /// Incidents of a lower severity are not sent.
    pub min_severity: Severity,
}

/// The form of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertFormat {
    /// hostprobe's own: the incident as in the event stream.
    Json,
    /// Alertmanager's `POST /api/v2/alerts`.
    Alertmanager,
}
