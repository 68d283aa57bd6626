//! Records of sockets, on their way to the stream and to the engine.

mod recent;
pub(super) mod state;

use std::time::Duration;

use self::state::Connection;
use super::{Daemon, executor::Outcome};
use crate::{
    bounded_thread,
    clock::Timestamp,
    fact::{AcceptQueue, Direction, Fact, Observation, Peer, ProcessKey, ServiceId, SocketError, Source},
    host::{Outbound, ProcReader},
    sensor::{ebpf::WatchedPort, record},
};

/// A listener that stays full is published no more often than this.
const SILENCE: Duration = Duration::from_secs(10);

impl Daemon {
    /// Watches the ports that services are expected to listen on: they may listen there already.
    pub(super) fn watch_expected_ports(&mut self, reader: &ProcReader) {
        let ports = self.enricher.members.expected_ports();
        self.watch_ports(reader.netns(std::process::id()), &ports.into_iter().collect::<Vec<_>>());
    }

    pub(super) fn on_socket_error(&mut self, record: &record::SocketError) {
        if let Some((error, service)) = self.enricher.socket_error(record) {
            if error.direction == Direction::Outbound {
                // A client that is refused depends on the server as well, and now it matters.
                let (remote, source) = (error.remote, error.source);
                self.learn(Connection { client: service, remote, netns: record.netns, source });
            }
            if let Some(error) = self.sockets.recent.admit(service, error, Timestamp::now()) {
                self.publish_socket_error(error, service);
            }
        }
    }

    pub(super) fn on_connect(&mut self, record: &record::Connect) {
        if let Some(client) = self.enricher.client(record) {
            let (remote, netns, source) = (record.remote, record.netns, record.source);
            self.learn(Connection { client, remote, netns, source });
        }
    }

    pub(super) fn on_accept_queue(&mut self, record: &record::AcceptQueue) {
        if let Some((queue, service)) = self.enricher.accept_queue(record) {
            self.on_full_queue(queue, service);
        }
    }

    /// A listener of a service is full, as a record or a sample of the queues shows. The engine observes each, and the
    /// stream has one every ten seconds.
    pub(super) fn on_full_queue(&mut self, queue: AcceptQueue, service: ServiceId) {
        let published = &mut self.sockets.full;
        published.retain(|_, (at, _)| queue.at.since(*at) < SILENCE);
        let (_, event) = *published.entry((service, queue.port)).or_insert_with(|| {
            (queue.at, self.publisher.publish(Fact::AcceptQueue(queue, service), queue.at))
        });
        self.observe(Observation::AcceptQueue(queue, service, event));
    }

    /// The connections of a service whose processes are older than the daemon.
    pub(super) fn on_connections(&mut self, client: ServiceId, connections: Outbound) {
        for remote in connections.remotes {
            self.learn(Connection { client, remote, netns: connections.netns, source: Source::Proc });
        }
    }

    /// Publishes the sums of errors that were held back, and looks again at connections without a known server.
    pub(super) fn sum_up_sockets(&mut self) {
        let now = Timestamp::now();
        for (error, service) in self.sockets.recent.due(now) {
            self.publish_socket_error(error, service);
        }
        self.place_connections();
        let later = std::mem::take(&mut self.sockets.read_later);
        self.sockets.unread.extend(later);
    }

    pub(super) fn on_retransmits(&mut self, record: &record::Retransmits) {
        let now = Timestamp::now();
        if let Some((again, service)) = self.enricher.retransmits(record, now) {
            let event = self.publisher.publish(Fact::Retransmits(again.clone(), service), now);
            self.observe(Observation::Retransmits(again, service, event));
        }
    }

    /// Notes the listeners of a process that is older than the daemon. Its connections are read with the next
    /// [`Daemon::execute_effects`].
    pub(super) fn take_stock_of_sockets(&mut self, service: ServiceId, main: ProcessKey, ports: &[u16]) {
        for &port in ports {
            self.enricher.members.serves(service, port);
            self.publisher.serves(service, port);
        }
        self.watch_ports(self.enricher.reader().netns(main.pid), ports);
        self.sockets.unread.push((service, main));
    }

    /// Reads the connections of the processes that are older than the daemon, all at once and on another thread: the kernel
    /// goes through all connections of the host.
    pub(super) fn read_connections(&mut self) {
        let unread = std::mem::take(&mut self.sockets.unread);
        if unread.is_empty() {
            return;
        }
        let (survey, outcomes) = (self.survey(), self.executor.outcomes.clone());
        let read = unread.clone();
        let started = bounded_thread::start("connections", move || {
            for (service, main) in read {
                let connections = survey.outbound_of(main.pid);
                outcomes.blocking_send(Outcome::Connections(service, connections));
            }
        });
        if let Err(error) = started {
            tracing::warn!("connections of the services' processes: cannot be read yet: {error}");
            self.sockets.read_later = unread;
        }
    }

    fn watch_ports(&mut self, netns: Option<u32>, ports: &[u16]) {
        for &port in ports {
            let port = WatchedPort { netns: netns.unwrap_or_default(), port };
            if let Err(error) = self.sensors.watch_port(port) {
                tracing::warn!(%error, "port {}: errors of its connections are not reported until its listener is opened again", port.port);
            }
        }
    }

    fn publish_socket_error(&mut self, error: SocketError, service: ServiceId) {
        let event = self.publisher.publish(Fact::SocketError(error.clone(), service), error.at);
        self.observe(Observation::SocketError(error, service, event));
    }

    /// Looks again at connections whose server was not known.
    fn place_connections(&mut self) {
        for connection in std::mem::take(&mut self.sockets.unplaced) {
            self.learn(connection);
        }
    }

    /// Learns from a connection that one service depends on another, once for each two.
    fn learn(&mut self, connection: Connection) {
        let Connection { client, remote, netns, source } = connection;
        match self.enricher.peer(remote, netns) {
            Peer::Service(server) if server != client => {
                if self.sockets.learned.insert((client, server)) {
                    let fact = Fact::Dependency(client, server, remote.port(), source);
                    self.publisher.publish(fact, Timestamp::now());
                    self.observe(Observation::Connected { client, server });
                }
            }
            Peer::Local => self.sockets.keep(connection),
            Peer::Remote => self.publisher.connects(client, remote),
            Peer::Service(_) => {}
        }
    }
}
