//! A service: what it is on this host, how its health is asked for, and what is done when it fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use super::{exec::Exec, maintenance::Window, probe::Probe, secret::Secret};
use crate::fact::ServiceId;

#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    pub identity: Identity,
    /// The services it cannot work without.
    pub depends_on: Vec<ServiceId>,
    /// The services that are to be healthy before the first start of its command.
    pub start_after: Vec<ServiceId>,
    /// Whether its failure makes the whole host unhealthy.
    pub critical: bool,
    /// When restarts and alerts are held.
    pub maintenance: Vec<Window>,
    pub probes: Vec<Probe>,
    pub restart: RestartPolicy,
    /// Above these it is degraded.
    pub limits: Limits,
    /// What to do about failures that a restart of the service itself may not be the answer to.
    pub policy: Policy,
}

/// What to do about failures that a restart of the service itself may not be the answer to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// A child process died; the main process lives.
    pub worker_died: Response,
    /// A store is full and refuses writes.
    pub memory_full: Response,
    /// A database has no connections left. `Restart` restarts the service that holds most of them, never the
    /// database.
    pub pool_exhausted: Response,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Response {
    /// Publish an event only.
    Ignore,
    /// Send an alert to the receivers.
    #[default]
    Alert,
    Restart,
}

impl Service {
    /// The TCP ports it must listen on for its probes to succeed, each with the address if one probe in numbers names it.
    pub fn local_addresses(&self) -> BTreeMap<u16, Option<IpAddr>> {
        let address = |port: u16| {
            let mut of_port = self.probes.iter().filter(|probe| probe.port() == Some(port));
            let address = of_port.next().and_then(Probe::address)?.ip();
            of_port.all(|probe| probe.address().is_some_and(|it| it.ip() == address)).then_some(address)
        };
        self.local_ports().into_iter().map(|port| (port, address(port))).collect()
    }

    /// The variables that a command is given, besides those that it inherits.
    pub fn environment(&self) -> &[(String, Secret)] {
        match &self.identity {
            Identity::Exec(exec) => &exec.environment,
            Identity::Unit(_) | Identity::Match(_) | Identity::Remote => &[],
        }
    }

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

/// Identifies a process of a service: every part that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matcher {
    /// The file it executes.
    pub exe: Option<PathBuf>,
    /// A file that holds its pid.
    pub pidfile: Option<PathBuf>,
    /// A TCP port it listens on.
    pub port: Option<u16>,
    /// The address on which it listens there, if a probe names one.
    pub address: Option<IpAddr>,
    /// Its cgroup's path.
    pub cgroup: Option<String>,
    /// Its container: the id, or at least its first 12 digits; or the name of an LXC container.
    pub container: Option<String>,
}

/// Whether and how a service is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// False: hostprobe only watches and alerts.
    pub enabled: bool,
    pub on_clean_exit: OnCleanExit,
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

/// What to do when the main process ends with success, or because another process asked it to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCleanExit {
    /// Restart it, as after any other end.
    #[default]
    Always,
    /// Take it for a stop.
    Never,
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
