//! What the kernel tells of sockets, on its way to the stream and to the engine.

mod recent;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use recent::Recent;

use tokio::task::spawn_blocking;

use super::{Daemon, executor::Outcome};
use crate::{
    clock::Timestamp,
    fact::{
        AcceptQueue, Direction, EventId, Fact, Observation, Peer, ProcessKey, ServiceId, SocketError, Source,
    },
    host::{Outbound, ProcReader},
    sensor::{ebpf::WatchedPort, record},
};

/// Connections to somebody on this host that is no service yet. It may become known as one, as a search for its
/// process takes a while.
const UNPLACED: usize = 64;

/// A listener that stays full is told of no more often than this.
const SILENCE: Duration = Duration::from_secs(10);

/// A service's connection: to where, in which network namespace, and who told.
type Connection = (ServiceId, SocketAddr, Option<u32>, Source);

/// What was learned of who connects to whom.
#[derive(Debug, Default)]
pub struct Sockets {
    learned: HashSet<(ServiceId, ServiceId)>,
    unplaced: VecDeque<Connection>,
    /// Main processes that are older than the daemon and whose connections were not looked at yet.
    unseen: Vec<(ServiceId, ProcessKey)>,
    recent: Recent,
    /// Full listeners that were told of a short while ago, by service and port: when, and as what.
    full: HashMap<(ServiceId, u16), (Timestamp, EventId)>,
}

impl Sockets {
    /// How many kinds of errors are kept in mind, and the most there can be.
    pub(super) fn size(&self) -> (&'static str, usize, usize) {
        ("socket_errors", self.recent.len(), Recent::LIMIT)
    }
}

impl Daemon {
    /// Has the kernel side tell of errors on the ports that services are expected to listen on, and may listen on
    /// already.
    pub(super) fn watch_expected_ports(&mut self, reader: &ProcReader) {
        let ports = self.enricher.members.expected_ports();
        self.watch_ports(reader.netns(std::process::id()), &ports.into_iter().collect::<Vec<_>>());
    }

    /// An error of a socket.
    pub(super) fn on_socket_error(&mut self, record: &record::SocketError) {
        if let Some((error, service)) = self.enricher.socket_error(record) {
            if error.direction == Direction::Outbound {
                // Who is refused depends on it no less than who is served, and it is now that it matters.
                self.learn((service, error.remote, record.netns, error.source));
            }
            if let Some(error) = self.sockets.recent.admit(service, error, Timestamp::now()) {
                self.say_socket_error(error, service);
            }
        }
    }

    /// A process has connected.
    pub(super) fn on_connect(&mut self, record: &record::Connect) {
        if let Some(client) = self.enricher.client(record) {
            self.learn((client, record.remote, record.netns, record.source));
        }
    }

    /// A listener has no room for more.
    pub(super) fn on_accept_queue(&mut self, record: &record::AcceptQueue) {
        if let Some((queue, service)) = self.enricher.accept_queue(record) {
            self.on_full_queue(queue, service);
        }
    }

    /// A listener of a service is full, by the kernel's word or by a look: it is told now and then, and observed
    /// each time.
    pub(super) fn on_full_queue(&mut self, queue: AcceptQueue, service: ServiceId) {
        let told = &mut self.sockets.full;
        told.retain(|_, (at, _)| queue.at.since(*at) < SILENCE);
        let (_, event) = *told.entry((service, queue.port)).or_insert_with(|| {
            (queue.at, self.publisher.publish(Fact::AcceptQueue(queue, service), queue.at))
        });
        self.observe(Observation::AcceptQueue(queue, service, event));
    }

    /// A main process is stopped.
    pub(super) fn on_stop(&mut self, record: &record::Stop) {
        let (stop, services) = self.enricher.stop(record);
        for service in services {
            let event = self.publisher.publish(Fact::Suspension(stop.clone(), service), stop.at);
            self.observe(Observation::Suspended(stop.clone(), service, event));
        }
    }

    /// The connections of a service's processes that are older than the daemon.
    pub(super) fn on_connections(&mut self, client: ServiceId, connections: Outbound) {
        for remote in connections.remotes {
            self.learn((client, remote, connections.netns, Source::Proc));
        }
    }

    /// Publishes the sums of errors that were held back, and looks again at connections without a known server.
    pub(super) fn sum_up_sockets(&mut self) {
        let now = Timestamp::now();
        for (error, service) in self.sockets.recent.due(now) {
            self.say_socket_error(error, service);
        }
        self.place_connections();
    }

    /// Segments of a service were sent again.
    pub(super) fn on_retransmits(&mut self, record: &record::Retransmits) {
        let now = Timestamp::now();
        if let Some((again, service)) = self.enricher.retransmits(record, now) {
            let event = self.publisher.publish(Fact::Retransmits(again.clone(), service), now);
            self.observe(Observation::Retransmits(again, service, event));
        }
    }

    /// Takes note of the listeners of a process that is older than the daemon, and that its connections are to be looked at.
    pub(super) fn take_stock_of_sockets(&mut self, service: ServiceId, main: ProcessKey, ports: &[u16]) {
        for &port in ports {
            self.enricher.members.serves(service, port);
        }
        self.watch_ports(self.enricher.reader().netns(main.pid), ports);
        self.sockets.unseen.push((service, main));
    }

    /// Looks at the connections of the processes that are older than the daemon, all at once and on another thread: the
    /// kernel goes through all that the host has.
    pub(super) fn look_at_connections(&mut self) {
        let unseen = std::mem::take(&mut self.sockets.unseen);
        if unseen.is_empty() {
            return;
        }
        let (survey, outcomes) = (self.survey(), self.executor.outcomes.clone());
        spawn_blocking(move || {
            for (service, main) in unseen {
                let connections = survey.outbound_of(main.pid);
                outcomes.blocking_send(Outcome::Connections(service, connections));
            }
        });
    }

    fn watch_ports(&mut self, netns: Option<u32>, ports: &[u16]) {
        for &port in ports {
            let port = WatchedPort { netns: netns.unwrap_or_default(), port };
            if let Err(error) = self.sensors.watch_port(port) {
                tracing::warn!(%error, "errors of its connections are not told until it listens anew");
            }
        }
    }

    fn say_socket_error(&mut self, error: SocketError, service: ServiceId) {
        let event = self.publisher.publish(Fact::SocketError(error.clone(), service), error.at);
        self.observe(Observation::SocketError(error, service, event));
    }

    /// Looks again at connections whose other end was no service.
    fn place_connections(&mut self) {
        for connection in std::mem::take(&mut self.sockets.unplaced) {
            self.learn(connection);
        }
    }

    /// Learns from a connection which service depends on which, once for each two.
    fn learn(&mut self, connection: Connection) {
        let (client, remote, netns, source) = connection;
        match self.enricher.peer(remote, netns) {
            Peer::Service(server) if server != client => {
                if self.sockets.learned.insert((client, server)) {
                    let fact = Fact::Dependency(client, server, remote.port(), source);
                    self.publisher.publish(fact, Timestamp::now());
                    self.observe(Observation::Connected { client, server });
                }
            }
            Peer::Local => self.sockets.keep(connection),
            Peer::Service(_) | Peer::Remote => {}
        }
    }
}

impl Sockets {
    /// Keeps a connection in mind; of too many, the oldest is forgotten.
    fn keep(&mut self, connection: Connection) {
        if !self.unplaced.contains(&connection) {
            self.unplaced.push_back(connection);
        }
        if self.unplaced.len() > UNPLACED {
            self.unplaced.pop_front();
        }
    }
}
