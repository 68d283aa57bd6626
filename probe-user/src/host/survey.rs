//! One survey of the host for many services: shared data is read once, when the first service needs it.
//!
//! The owner of a listening port shows only in the descriptors of all processes. A thousand services that each read
//! them would take minutes, with the same result.

use std::{
    collections::HashMap,
    fs,
    hash::Hash,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use super::{
    ListeningSocket, Outbound, ProcReader, candidate::Candidate, listener::Sockets, process::ProcessTree,
};
use crate::fact::process::accepts;

/// The host at one moment, read on demand. A survey does not show later changes.
#[derive(Debug)]
pub struct Survey {
    reader: ProcReader,
    /// The listeners on each port of the daemon's own network namespace.
    listening: OnceLock<HashMap<u16, Vec<(IpAddr, u32)>>>,
    candidates: OnceLock<Vec<Candidate>>,
    /// Read if the kernel does not list children.
    process_tree: OnceLock<ProcessTree>,
    /// The listeners of each network namespace.
    listeners: Tables<Sockets>,
    /// The other ends of the connections in each network namespace.
    outbound: Tables<HashMap<u64, SocketAddr>>,
}

/// Tables of network namespaces, by the links that name these.
type Tables<T> = Mutex<HashMap<PathBuf, Arc<T>>>;

impl Survey {
    /// Nothing is read yet.
    pub fn new(reader: ProcReader) -> Self {
        Self {
            reader,
            listening: OnceLock::new(),
            candidates: OnceLock::new(),
            process_tree: OnceLock::new(),
            listeners: Tables::default(),
            outbound: Tables::default(),
        }
    }

    pub(super) fn reader(&self) -> &ProcReader {
        &self.reader
    }

    /// The processes that listen on a port in the daemon's own network namespace, where connections to `address` reach
    /// them. If they reach none, or for None: on any address.
    pub(super) fn listening_on(&self, port: u16, address: Option<IpAddr>) -> Vec<u32> {
        let listening = self.listening.get_or_init(|| {
            let mut by_port: HashMap<u16, Vec<(IpAddr, u32)>> = HashMap::new();
            for socket in self.reader.listeners().unwrap_or_default() {
                by_port.entry(socket.port).or_default().push((socket.address, socket.pid));
            }
            by_port
        });
        let sockets = || listening.get(&port).into_iter().flatten();
        let reached = |(bound, _): &&(IpAddr, u32)| address.is_none_or(|address| accepts(*bound, address));
        let mut pids: Vec<u32> = sockets().filter(reached).map(|(_, pid)| *pid).collect();
        if pids.is_empty() {
            pids.extend(sockets().map(|(_, pid)| *pid));
        }
        // It may listen on several addresses.
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    pub(super) fn candidates(&self) -> &[Candidate] {
        self.candidates.get_or_init(|| {
            let pids = self.reader.pids().unwrap_or_default();
            pids.into_iter().filter_map(|pid| Candidate::read(&self.reader, pid)).collect()
        })
    }

    /// A process and all its descendants.
    pub(super) fn subtree(&self, pid: u32) -> Vec<u32> {
        let listed = self.reader.listed_subtree(pid);
        listed.unwrap_or_else(|| self.process_tree.get_or_init(|| self.reader.process_tree()).of(pid))
    }

    /// The sockets that these processes listen on, each in its own network namespace, in order.
    pub fn listeners_of(&self, pids: &[u32]) -> Vec<ListeningSocket> {
        let mut found = Vec::new();
        for &pid in pids {
            self.reader.join(pid, &self.sockets_around(pid), &mut found);
        }
        found.sort_unstable();
        found
    }

    /// What listens in the network namespace of a process.
    fn sockets_around(&self, pid: u32) -> Arc<Sockets> {
        let namespace = self.namespace(pid);
        // A process that vanishes meanwhile listens no more.
        let read = || match namespace.is_some() && namespace == self.reader.own_namespace() {
            true => self.reader.own_listening(),
            false => self.reader.listening(&self.reader.folder(pid).join("net")),
        };
        once(&self.listeners, namespace.clone(), || read().unwrap_or_default())
    }

    /// The addresses that a process and its descendants listen on, one for each socket. Several sockets may share an
    /// address (`SO_REUSEPORT`), and several processes a socket.
    pub fn listening_of(&self, main: u32) -> Vec<SocketAddr> {
        let mut sockets = HashMap::new();
        for pid in self.subtree(main) {
            let table = self.sockets_around(pid);
            for inode in self.reader.socket_inodes(pid) {
                if let Some(&(address, port)) = table.get(&inode) {
                    sockets.insert(inode, SocketAddr::new(address, port));
                }
            }
        }
        let mut addresses: Vec<_> = sockets.into_values().collect();
        addresses.sort_unstable();
        addresses
    }

    /// The sockets that listen on a port and that a process, its descendants, or any process in the daemon's own network
    /// namespace hold. None if the host does not list them.
    pub fn listeners_on(&self, port: u16, main: Option<u32>) -> Option<Vec<ListeningSocket>> {
        let mut found = self.reader.listeners().ok()?;
        found.extend(main.map(|main| self.listeners_of(&self.subtree(main))).unwrap_or_default());
        found.retain(|socket| socket.port == port);
        found.sort_unstable();
        found.dedup();
        Some(found)
    }

    /// The remote ends of the connections of a process and its descendants, in the network namespace of the process:
    /// those that they opened, not those that they accepted.
    pub fn outbound_of(&self, main: u32) -> Outbound {
        let sockets = once(&self.outbound, self.namespace(main), || {
            self.reader.outbound(&self.reader.folder(main).join("net"))
        });
        Outbound {
            netns: self.reader.netns(main),
            remotes: self.reader.remotes(&self.subtree(main), &sockets),
        }
    }

    /// The link that names the network namespace of a process.
    fn namespace(&self, pid: u32) -> Option<PathBuf> {
        fs::read_link(self.reader.folder(pid).join("ns/net")).ok()
    }
}

/// The value for this key, read the first time; without a key read each time.
fn once<K: Eq + Hash, T>(
    tables: &Mutex<HashMap<K, Arc<T>>>,
    key: Option<K>,
    read: impl FnOnce() -> T,
) -> Arc<T> {
    let Some(key) = key else { return Arc::new(read()) };
    let mut tables = tables.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(tables.entry(key).or_insert_with(|| Arc::new(read())))
}

#[cfg(test)]
mod tests;
