//! What the daemon as a whole runs on.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    alert::AlertReceiver, container::ContainerOptions, exec::Exec, fleet::Fleet, hook::Hook,
    host::HostOptions, output::EventOutput, probe::Probe, secret::Secret, served::HttpToken,
    service::Service, tls::TlsIdentity,
};
use crate::{
    fact::{RestartBudget, ServiceId},
    redact,
    rotated_file::Rotation,
};

/// Everything the daemon runs on.
#[derive(Clone, Debug)]
pub struct Config {
    pub events: Vec<EventOutput>,
    /// How the files among them rotate.
    pub event_files: Rotation,
    /// The address of health and metrics; None: not served.
    pub http: Option<SocketAddr>,
    /// The certificate that is shown to clients of HTTP; None: they ask in plain text.
    pub http_tls: Option<TlsIdentity>,
    /// What clients of HTTP have to bring along; None: every client is answered.
    pub http_token: Option<HttpToken>,
    /// The address at which people reach health and metrics, for links in alerts; None: that of `http`.
    pub public_url: Option<String>,
    /// The control socket; None: no socket.
    pub control: Option<PathBuf>,
    /// The group whose members may use the control socket, besides root and the daemon's own user.
    pub control_group: Option<String>,
    /// The receivers of incidents.
    pub alerts: Vec<AlertReceiver>,
    /// A dead man's switch elsewhere; None: there is none.
    pub heartbeat: Option<OutwardHeartbeat>,
    /// What hosts tell each other; None: this host takes part in no fleet.
    pub fleet: Option<Fleet>,
    /// The user's own programs.
    pub hooks: Vec<Hook>,
    /// The checks of the host.
    pub host: HostOptions,
    /// The restart budget of all services together.
    pub restart_budget: RestartBudget,
    /// The services, in the order of their ids.
    pub services: Vec<Service>,
    /// The container engines.
    pub containers: ContainerOptions,
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
        secrets.extend(self.alerts.iter().flat_map(AlertReceiver::secrets));
        secrets.extend(self.http_token.iter().flat_map(|token| token.text.parts()));
        let url = self.heartbeat.iter().map(|heartbeat| &heartbeat.url);
        secrets.extend(url.flat_map(|url| url.parts().into_iter().chain(url.path_tokens())));
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
    /// Whether threads of a service that hangs are stopped for a moment, to find out where they are.
    pub stacks: bool,
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

/// What is asked elsewhere while the daemon works.
#[derive(Clone, Debug, PartialEq)]
pub struct OutwardHeartbeat {
    pub url: Secret,
    pub interval: Duration,
}
