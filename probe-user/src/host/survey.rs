//! One survey of the host for many services: shared data is read once, when the first service needs it.
//!
//! The owner of a listening port shows only in the descriptors of all processes. A thousand services that each read
//! them would take minutes, with the same result.

use std::{
    collections::HashMap,
    fs,
    hash::Hash,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use super::{
    ListeningSocket, Outbound, ProcReader, candidate::Candidate, listener::Sockets, process::ProcessTree,
};

/// The host at one moment, read on demand. A survey does not show later changes.
#[derive(Debug)]
pub struct Survey {
    reader: ProcReader,
    /// The listeners on each port of the daemon's own network namespace.
    listening: OnceLock<HashMap<u16, Vec<u32>>>,
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

    /// The processes that listen on a port in the daemon's own network namespace.
    pub(super) fn listening_on(&self, port: u16) -> &[u32] {
        let listening = self.listening.get_or_init(|| {
            let mut by_port: HashMap<u16, Vec<u32>> = HashMap::new();
            for socket in self.reader.listeners().unwrap_or_default() {
                by_port.entry(socket.port).or_default().push(socket.pid);
            }
            for pids in by_port.values_mut() {
                // It may listen on several addresses.
                pids.sort_unstable();
                pids.dedup();
            }
            by_port
        });
        listening.get(&port).map_or(&[], Vec::as_slice)
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
        let own = self.reader.own_namespace();
        let mut found = Vec::new();
        for &pid in pids {
            let namespace = self.namespace(pid);
            // A process that vanishes meanwhile has no listeners.
            let read = || match namespace.is_some() && namespace == own {
                true => self.reader.own_listening(),
                false => self.reader.listening(&self.reader.folder(pid).join("net")),
            };
            let sockets = once(&self.listeners, namespace.clone(), || read().unwrap_or_default());
            self.reader.join(pid, &sockets, &mut found);
        }
        found.sort_unstable();
        found
    }

    /// The ports that a process and its descendants listen on, one for each socket.
    pub fn ports_of(&self, main: u32) -> Vec<u16> {
        let mut sockets = self.listeners_of(&self.subtree(main));
        // A socket that several processes share is one.
        sockets.sort_by_key(|socket| (socket.port, socket.address, socket.pid));
        sockets.dedup_by_key(|socket| (socket.port, socket.address));
        sockets.into_iter().map(|socket| socket.port).collect()
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
