//! The processes that listen on ports.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// `TCP_LISTEN` of the kernel, as `/proc/net/tcp` has it.
const LISTEN: &str = "0A";

/// The pids of all processes that have a listener on one of these ports, whatever its address.
pub fn on(ports: &[u16]) -> Vec<u32> {
    let sockets: BTreeSet<PathBuf> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|table| listening(table, ports)).collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| has_one(*pid, &sockets)).collect()
}

/// The listeners of a table of the kernel, as the links of their descriptors.
fn listening(table: &str, ports: &[u16]) -> Vec<PathBuf> {
    let table = fs::read_to_string(table).unwrap_or_default();
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
        (*fields.get(3)? == LISTEN && ports.contains(&port)).then_some(())?;
        Some(PathBuf::from(format!("socket:[{}]", fields.get(9)?)))
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// Whether a process has one of these sockets; false if it has ended.
fn has_one(pid: u32, sockets: &BTreeSet<PathBuf>) -> bool {
    let folder = format!("/proc/{pid}/fd");
    let descriptors = fs::read_dir(Path::new(&folder)).into_iter().flatten().flatten();
    let mut links = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.any(|link| sockets.contains(&link))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_process_with_a_listener_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let port = listener.local_addr().expect("a port").port();
        assert_eq!(on(&[port]), [std::process::id()]);
        drop(listener);
        assert_eq!(on(&[port]), [0; 0]);
    }
}
