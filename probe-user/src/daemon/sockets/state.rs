//! What the daemon remembers of the services' sockets, beyond what the sensors report.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::SocketAddr,
};

use super::recent::RecentErrors;
use crate::{
    clock::Timestamp,
    fact::{EventId, ProcessKey, ServiceId, Source},
};

/// Connections to a process on this host that belongs to no service yet. It may turn out to belong to one: the search for a
/// main process takes a while.
const UNPLACED: usize = 64;

/// A service's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub client: ServiceId,
    pub remote: SocketAddr,
    pub netns: Option<u32>,
    pub source: Source,
}

#[derive(Debug, Default)]
pub struct Sockets {
    /// Clients and servers whose dependency was published.
    pub learned: HashSet<(ServiceId, ServiceId)>,
    pub unplaced: VecDeque<Connection>,
    /// Main processes that are older than the daemon and whose connections were not read yet.
    pub unread: Vec<(ServiceId, ProcessKey)>,
    /// The same, where no thread could be started to read them: they are tried again every second.
    pub read_later: Vec<(ServiceId, ProcessKey)>,
    pub recent: RecentErrors,
    /// Full listeners that were published a short while ago, by service and port.
    pub full: HashMap<(ServiceId, u16), (Timestamp, EventId)>,
}

impl Sockets {
    /// How many kinds of errors are kept, and the most there can be.
    pub fn size(&self) -> (&'static str, usize, usize) {
        ("socket_errors", self.recent.len(), RecentErrors::LIMIT)
    }

    /// A reload removed a service.
    pub fn remove(&mut self, service: ServiceId) {
        self.learned.retain(|(client, server)| *client != service && *server != service);
        self.unplaced.retain(|connection| connection.client != service);
        self.unread.retain(|(client, _)| *client != service);
        self.read_later.retain(|(client, _)| *client != service);
        self.recent.remove(service);
        self.full.retain(|(client, _), _| *client != service);
    }

    /// Keeps a connection whose server is not known. Drops the oldest if there are too many.
    pub fn keep(&mut self, connection: Connection) {
        if !self.unplaced.contains(&connection) {
            self.unplaced.push_back(connection);
        }
        if self.unplaced.len() > UNPLACED {
            self.unplaced.pop_front();
        }
    }
}
