//! A service: what it is on this host, how its health is asked for, and what is done when it fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
};

use super::{container::Container, exec::Exec, maintenance::Window, probe::Probe, secret::Secret};
use crate::fact::{Limits, Policy, RestartPolicy, ServiceId};

#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// It stays the same over reloads.
    pub id: ServiceId,
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

impl Service {
    /// Its container, if it is one.
    pub fn container(&self) -> Option<&Container> {
        match &self.identity {
            Identity::Container(container) => Some(container),
            Identity::Unit(_) | Identity::Exec(_) | Identity::Match(_) | Identity::Remote => None,
        }
    }

    /// The TCP ports it must listen on for its probes to succeed, each with the address if one probe in numbers names it.
    pub fn local_addresses(&self) -> BTreeMap<u16, Option<IpAddr>> {
        let address = |port: u16| {
            let mut of_port = self.probes.iter().filter(|probe| probe.port() == Some(port));
            let address = of_port.next().and_then(Probe::address)?.ip();
            of_port.all(|probe| probe.address().is_some_and(|it| it.ip() == address)).then_some(address)
        };
        self.local_ports().into_iter().map(|port| (port, address(port))).collect()
    }

    /// The systemd unit that it is.
    pub fn unit(&self) -> Option<&str> {
        match &self.identity {
            Identity::Unit(unit) => Some(unit),
            Identity::Exec(_) | Identity::Match(_) | Identity::Container(_) | Identity::Remote => None,
        }
    }

    /// The command that hostprobe starts for it.
    pub fn exec(&self) -> Option<&Exec> {
        match &self.identity {
            Identity::Exec(exec) => Some(exec),
            Identity::Unit(_) | Identity::Match(_) | Identity::Container(_) | Identity::Remote => None,
        }
    }

    /// The variables that a command is given, besides those that it inherits.
    pub fn environment(&self) -> &[(String, Secret)] {
        self.exec().map_or(&[], |exec| &exec.environment)
    }

    /// The TCP ports it must listen on for its probes to succeed; none for a service that is elsewhere.
    pub fn local_ports(&self) -> BTreeSet<u16> {
        let matched = match &self.identity {
            Identity::Remote => return BTreeSet::new(),
            Identity::Match(matcher) => matcher.port,
            Identity::Unit(_) | Identity::Exec(_) | Identity::Container(_) => None,
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
    /// A container, which its engine runs.
    Container(Container),
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
