//! The running configuration, valid by construction: every reference resolved, every duration parsed.
//!
//! It comes from a file ([`Config::load`]) or, without one, from what listens on this host.

mod check;
mod default;
mod error;
mod file;
mod load;
mod nearest;
mod parse;
mod read;
mod secret;
mod template;
mod unsupported;
mod values;

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

pub use error::{ConfigError, ConfigErrors};
pub use secret::Secret;

use crate::fact::{ProbeKind, ServiceId, Severity};

/// Where commands are taken if nothing else is said.
pub const DEFAULT_CONTROL: &str = "/run/hostprobe/control.sock";

/// Everything the daemon runs on.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where events go.
    pub events: EventOutput,
    /// Where health and metrics are served; None turns it off.
    pub http: Option<SocketAddr>,
    /// Where commands are taken; None turns it off.
    pub control: Option<PathBuf>,
    /// Who is told of incidents.
    pub alerts: Vec<AlertReceiver>,
    /// The services, in the order of their [`ServiceId`]s.
    pub services: Vec<Service>,
    /// The kernel side's buffers and budgets.
    pub kernel: KernelOptions,
    /// Where snapshots of services that hang are kept, and how many.
    pub snapshots: SnapshotOptions,
    /// Where the daemon keeps its state.
    pub state: StateOptions,
    /// What a person should know of this configuration, though it is valid: one sentence each.
    pub warnings: Vec<String>,
}

/// Where events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventOutput {
    /// Standard output.
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
    /// Deaths of processes of no service that are reported a second, per cgroup; more are counted only.
    pub unwatched_exits_per_second: u32,
}

/// Where snapshots of services that hang are kept, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// The folder.
    pub directory: PathBuf,
    /// How many are kept, the newest; older ones are deleted.
    pub keep: u32,
}

/// Where the daemon keeps its state, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateOptions {
    /// The folder.
    pub directory: PathBuf,
    /// The size of the recording, in bytes; 0 turns it off.
    pub recording_bytes: u64,
}

/// A receiver of alerts.
#[derive(Clone, Debug)]
pub struct AlertReceiver {
    /// Where they are posted.
    pub webhook: Secret,
    /// In which form.
    pub format: AlertFormat,
    /// Quieter ones are not sent.
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

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name, unique.
    pub name: String,
    /// What it is on this host.
    pub identity: Identity,
    /// The services it cannot work without.
    pub depends_on: Vec<ServiceId>,
    /// Whether its failure makes the whole host unhealthy.
    pub critical: bool,
    /// How its health is asked for.
    pub probes: Vec<Probe>,
    /// Whether and how it is restarted.
    pub restart: RestartPolicy,
    /// Above these it is degraded.
    pub limits: Limits,
    /// What to do about failures that a restart of the service itself may not be the answer to.
    pub policy: Policy,
}

/// What to do about failures that a restart of the service itself may not be the answer to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Another process of it died, and its main process lives.
    pub worker_died: Response,
    /// A store is full and refuses writes.
    pub memory_full: Response,
    /// A database has no connections left: here a restart is that of the service that holds most of them, never
    /// of the database.
    pub pool_exhausted: Response,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Response {
    /// Nothing; it is told as an event only.
    Ignore,
    /// Tell the receivers of alerts.
    #[default]
    Alert,
    /// Restart.
    Restart,
}

impl Service {
    /// The TCP ports it must listen on for its probes to succeed; none for a service that is elsewhere.
    pub fn local_ports(&self) -> BTreeSet<u16> {
        let matched = match &self.identity {
            Identity::Remote => return BTreeSet::new(),
            Identity::Match(matcher) => matcher.port,
            Identity::Unit(_) | Identity::Exec(_) => None,
        };
        self.probes.iter().filter_map(Probe::port).chain(matched).collect()
    }
}

/// What a service is on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A systemd unit.
    Unit(String),
    /// A command that hostprobe starts and keeps running.
    Exec(Exec),
    /// A process that something else started.
    Match(Matcher),
    /// Nothing: it is elsewhere, and only probed.
    Remote,
}

/// A command under the built-in supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Absolute path and arguments.
    pub command: Vec<String>,
    /// The file its output is appended to.
    pub output: PathBuf,
    /// The folder it runs in.
    pub directory: PathBuf,
}

/// How a process of a service is known; every part that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matcher {
    /// The file it executes.
    pub exe: Option<PathBuf>,
    /// A file that holds its pid.
    pub pidfile: Option<PathBuf>,
    /// A TCP port it listens on.
    pub port: Option<u16>,
    /// Its cgroup's path.
    pub cgroup: Option<String>,
    /// Its container: the id, or at least its first 12 digits; or the name of an LXC container.
    pub container: Option<String>,
}

/// A probe.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Its protocol.
    pub kind: ProbeKind,
    /// A URL, or `host:port` for TCP; may hold a password.
    pub target: Secret,
    /// Time from the start of one run to the start of the next.
    pub interval: Duration,
    /// A run that takes longer has failed.
    pub timeout: Duration,
    /// Failures in a row before they count.
    pub failures: u32,
    /// An answer that takes longer is slow.
    pub slow: Option<Duration>,
    /// HTTP statuses that are right; empty: 200 to 399.
    pub expect_status: Vec<u16>,
    /// Text the HTTP body must contain.
    pub expect_body: Option<String>,
    /// Redis: percent of `maxmemory` above which it is degraded.
    pub memory_percent: Option<u8>,
    /// Databases: percent of the connections there may be, above which too many are in use.
    pub connections_percent: Option<u8>,
    /// A server that only asks for a password is up: true for discovered services, for which hostprobe has
    /// none.
    pub auth_is_alive: bool,
}

impl Probe {
    /// The address it connects to, where its target has one in numbers.
    pub fn address(&self) -> Option<SocketAddr> {
        let (_, host) = self.authority();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => name,
            _ => host,
        };
        let ip = name.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
        Some(SocketAddr::new(ip, self.port()?))
    }

    /// The target's scheme, and its host with its port.
    fn authority(&self) -> (&str, &str) {
        let target = self.target.expose();
        let (scheme, rest) = target.split_once("://").unwrap_or(("", target));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        (scheme, authority.rsplit('@').next().unwrap_or_default())
    }

    /// The TCP port it connects to.
    pub fn port(&self) -> Option<u16> {
        let (scheme, host) = self.authority();
        let explicit = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        explicit.or(match (self.kind, scheme) {
            (ProbeKind::Http, "https") => Some(443),
            (ProbeKind::Http, _) => Some(80),
            (ProbeKind::Redis, _) => Some(6379),
            (ProbeKind::Postgres, _) => Some(5432),
            (ProbeKind::Mysql, _) => Some(3306),
            (ProbeKind::Tcp, _) => None,
        })
    }
}

/// Whether and how a service is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// False: hostprobe only watches and alerts.
    pub enabled: bool,
    /// How many restarts are allowed…
    pub budget: u32,
    /// … in how long.
    pub budget_window: Duration,
    /// Wait before the second restart in a row; it doubles with each.
    pub backoff_first: Duration,
    /// It never grows beyond this.
    pub backoff_max: Duration,
    /// After a (re)start, probe failures do not count for this long.
    pub grace: Duration,
    /// For [`Identity::Match`]: absolute path and arguments of the command that restarts it.
    pub command: Option<Vec<String>>,
}

/// Limits above which a service is degraded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Percent of one core, over the sampling interval.
    pub cpu_percent: Option<f64>,
    /// Percent of its memory cgroup's limit, or of the host's memory where it has none.
    pub memory_percent: Option<f64>,
    /// Threads of all its processes.
    pub threads: Option<u64>,
    /// Open file descriptors of all its processes.
    pub fds: Option<u64>,
}
