//! What runs on this host and could be watched: for a start without configuration, and to write one.

mod file;
mod found;
mod name;
mod toml;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use self::found::merge;
pub use self::{
    file::to_file,
    found::{Discovered, Found},
    toml::to_toml,
};
use crate::{
    config::{Identity, Limits, Matcher, Policy, Probe, RestartPolicy, Service, protocol},
    fact::{ProbeKind, Process, ServiceId},
    host::{ProcReader, ReadError},
};

/// The file of this program.
const OWN_NAME: &str = "hostprobe";

/// Finds the services of this host: one for each group of processes that listens on TCP.
///
/// A group is a topmost process and all below it that execute the same file. hostprobe's own processes are
/// left out: `own_pid` and what runs the same file.
pub fn discover(reader: &ProcReader, own_pid: u32) -> Result<Discovered, ReadError> {
    let processes: HashMap<u32, Process> =
        reader.scan()?.processes.into_iter().map(|process| (process.key.pid, process)).collect();
    let own = topmost(own_pid, &processes);
    let own_executable = processes.get(&own_pid).and_then(|process| process.executable.clone());
    let mut groups: BTreeMap<u32, BTreeSet<SocketAddr>> = BTreeMap::new();
    for socket in reader.listeners()? {
        // One that vanished since the scan is none to watch.
        if !processes.contains_key(&socket.pid) {
            continue;
        }
        let leader = topmost(socket.pid, &processes);
        if socket.pid != own_pid && leader != own {
            groups.entry(leader).or_default().insert(SocketAddr::new(socket.address, socket.port));
        }
    }

    let mut found: Vec<Found> = groups
        .iter()
        .filter_map(|(leader, sockets)| {
            let process = processes.get(leader)?;
            // A running daemon, which this command need not descend from.
            if file_name(process) == Some(OWN_NAME)
                || own_executable.is_some() && process.executable == own_executable
            {
                return None;
            }
            // systemd only holds sockets for services, which hold them as well once they run.
            if file_name(process) == Some("systemd") {
                return None;
            }
            Some(service(
                process,
                reader.own_unit(*leader).filter(|unit| unit.ends_with(".service")),
                sockets,
            ))
        })
        .collect();
    found.sort_by_key(|found| found.ports.first().copied());
    // A matcher cannot distinguish two groups with the same executable and port.
    let mut found = merge(found, |one, other| one.service.identity == other.service.identity);
    name::make_unique(&mut found);
    let units = processes.keys().filter_map(|pid| reader.own_unit(*pid));
    let units = units.filter(|unit| unit.ends_with(".service") && !is_own(unit)).collect();
    Ok(Discovered { services: found, units })
}

/// Whether a unit is that of the daemon.
fn is_own(unit: &str) -> bool {
    unit.strip_suffix(".service") == Some(OWN_NAME)
}

fn file_name(process: &Process) -> Option<&str> {
    Path::new(process.executable.as_deref()?).file_name()?.to_str()
}

/// The name a server is known by, where one file goes by several: in Debian's packages `redis-server` is a link
/// to a tool that is the same program.
fn server_name(file: &str) -> &str {
    match file {
        "redis-check-rdb" | "redis-check-aof" => "redis-server",
        "valkey-check-rdb" | "valkey-check-aof" => "valkey-server",
        _ => file,
    }
}

/// The topmost ancestor of a process, through those that execute the same file.
fn topmost(pid: u32, processes: &HashMap<u32, Process>) -> u32 {
    let mut top = pid;
    // Parents cannot form a ring. A scan takes time, though, and reused pids could show one.
    for _ in 0..processes.len() {
        let Some(process) = processes.get(&top) else { break };
        let Some(parent) = processes.get(&process.parent_pid) else { break };
        if process.executable.is_none() || parent.executable != process.executable {
            break;
        }
        top = parent.key.pid;
    }
    top
}

fn service(process: &Process, unit: Option<String>, sockets: &BTreeSet<SocketAddr>) -> Found {
    let ports: BTreeSet<u16> = sockets.iter().map(SocketAddr::port).collect();
    let ports: Vec<u16> = ports.into_iter().collect();
    let file = file_name(process).map(server_name);
    let name = name::of(unit.as_deref(), file.unwrap_or(&process.name));
    let service = Service {
        // A configuration numbers its services.
        id: ServiceId(0),
        name,
        identity: Identity::Match(Matcher {
            // The kernel's name of a file that has no path here begins otherwise: `(unreachable)/x`.
            exe: process.executable.as_deref().filter(|path| path.starts_with('/')).map(PathBuf::from),
            port: ports.first().copied(),
            ..Matcher::default()
        }),
        depends_on: Vec::new(),
        start_after: Vec::new(),
        critical: true,
        maintenance: Vec::new(),
        probes: file.and_then(|file| probe(file, &ports, sockets)).into_iter().collect(),
        restart: RestartPolicy::default(),
        limits: Limits::default(),
        policy: Policy::default(),
    };
    Found { service, unit, ports }
}

/// The probe for a server that is known by the name of its file.
fn probe(file: &str, ports: &[u16], sockets: &BTreeSet<SocketAddr>) -> Option<Probe> {
    let (kind, server) = ProbeKind::ALL.into_iter().find_map(|kind| {
        let server = protocol(kind).server?;
        server.executables.contains(&file).then_some((kind, server))
    })?;
    // Servers have further ports, such as MySQL's X protocol and the Redis cluster bus, which are higher.
    let usual = protocol(kind).usual_port().filter(|port| ports.contains(port));
    let port = usual.or(ports.first().copied())?;
    let at = SocketAddr::new(reachable(sockets, port)?, port);
    Some(Probe { auth_is_alive: true, ..Probe::new(kind, (server.target)(at)) })
}

/// The address to reach a port at: the loopback address wherever it is served there.
fn reachable(sockets: &BTreeSet<SocketAddr>, port: u16) -> Option<IpAddr> {
    let bound: Vec<IpAddr> = sockets.iter().filter(|at| at.port() == port).map(SocketAddr::ip).collect();
    let v4 = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
    if bound.iter().any(|address| v4.contains(address)) {
        return Some(v4[0]);
    }
    let v6 = [IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    if bound.iter().any(|address| v6.contains(address)) {
        return Some(v6[0]);
    }
    bound.first().copied()
}

#[cfg(test)]
mod tests;
