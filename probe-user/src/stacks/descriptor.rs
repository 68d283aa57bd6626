//! What a descriptor of a process leads to.

use std::{cell::RefCell, collections::HashMap, fs, net::SocketAddr, path::PathBuf};

use super::reason::RemoteEnd;
use crate::{
    fact::TcpState,
    host::{ProcReader, connection::Connection},
};

/// What a descriptor leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Descriptor {
    Tcp {
        /// None for a listener.
        remote: Option<RemoteEnd>,
        /// The connection is not made yet.
        connects: bool,
    },
    /// Such as `a pipe` or a path.
    Other(String),
}

/// The names of watched services by their addresses.
#[derive(Clone, Debug, Default)]
pub struct ServiceNames {
    /// Those of other hosts.
    pub elsewhere: HashMap<SocketAddr, String>,
    /// Those of this host, by port.
    pub here: HashMap<u16, String>,
}

impl ServiceNames {
    /// The service at the other end of a connection.
    fn of(&self, local: SocketAddr, remote: SocketAddr) -> Option<String> {
        if let Some(name) = self.elsewhere.get(&remote) {
            return Some(name.clone());
        }
        // A connection within a host has one address at both ends.
        let is_here = remote.ip().is_loopback() || remote.ip() == local.ip();
        self.here.get(&remote.port()).filter(|_| is_here).cloned()
    }
}

/// Finds what descriptors are. The sockets of a process's network namespace are read once.
pub struct OpenFiles<'r> {
    reader: &'r ProcReader,
    services: &'r ServiceNames,
    sockets: RefCell<HashMap<PathBuf, HashMap<u64, Connection>>>,
}

impl<'r> OpenFiles<'r> {
    pub fn new(reader: &'r ProcReader, services: &'r ServiceNames) -> Self {
        Self { reader, services, sockets: RefCell::default() }
    }

    fn tcp(&self, pid: u32, inode: u64) -> Option<Descriptor> {
        let folder = self.reader.folder(pid);
        let namespace = fs::read_link(folder.join("ns/net")).unwrap_or_default();
        let mut sockets = self.sockets.borrow_mut();
        let sockets = sockets.entry(namespace).or_insert_with(|| {
            let found = self.reader.connections(&folder.join("net"), |it| it.inode != 0);
            found.unwrap_or_default().into_iter().map(|it| (it.inode, it)).collect()
        });
        let found = sockets.get(&inode)?;
        let is_listener = found.state == TcpState::Listen;
        let peer =
            || RemoteEnd { address: found.remote, service: self.services.of(found.local, found.remote) };
        Some(Descriptor::Tcp {
            remote: (!is_listener).then(peer),
            connects: found.state == TcpState::SynSent,
        })
    }
}

impl OpenFiles<'_> {
    /// What a descriptor of a process is. None if it is gone, or if the kernel hides it from this process.
    pub fn descriptor(&self, pid: u32, number: u64) -> Option<Descriptor> {
        let link = self.reader.folder(pid).join("fd").join(number.to_string());
        let target = fs::read_link(link).ok()?.to_string_lossy().into_owned();
        let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')?.parse().ok());
        if let Some(inode) = inode {
            let other = || Descriptor::Other("a socket that is not TCP".to_owned());
            return Some(self.tcp(pid, inode).unwrap_or_else(other));
        }
        Some(Descriptor::Other(match target.split_once(':') {
            Some(("pipe", _)) => "a pipe".to_owned(),
            Some(("anon_inode", kind)) => kind.trim_matches(['[', ']']).to_owned(),
            Some(_) | None => target,
        }))
    }
}
