//! Events about sockets and stopped processes.

use std::net::SocketAddr;

use super::{Renderer, counted, millis};
use crate::{
    emit::wire::{self, Level, Outcome, Record},
    fact::{
        AcceptQueue, Direction, Peer, Process, Retransmits, ServiceId, SocketError, Source, Suspension,
        process::signal_name, socket::errno_name,
    },
};

impl Renderer<'_> {
    pub(super) fn socket_error(&self, record: &mut Record, error: &SocketError, service: ServiceId) {
        let name = errno_name(error.errno);
        let who = self.names.service(service);
        let protocol = error.protocol.as_str();
        let times = if error.count == 1 { String::new() } else { format!(", {} times", error.count) };
        let peer = self.peer(error.peer).map(|peer| format!(" ({peer})")).unwrap_or_default();
        let (client, server) = match error.direction {
            Direction::Outbound => (error.local, error.remote),
            Direction::Inbound => (error.remote, error.local),
        };
        record.message = match error.direction {
            Direction::Outbound => {
                format!("{who}'s {protocol} connection to {server}{peer} failed with {name}{times}")
            }
            Direction::Inbound => {
                format!("a {protocol} connection from {client}{peer} to {who} failed with {name}{times}")
            }
        };
        record.event.outcome = Outcome::Failure;
        record.log.level = Level::Warn;
        record.event.provider = error.source.into();
        record.service = Some(self.service(service));
        record.process = error.process.map(|key| self.bare_process(key));
        record.client = Some(endpoint(client));
        record.server = Some(endpoint(server));
        record.socket = Some(wire::Socket {
            error: name,
            errno: error.errno,
            transition: error.transition.map(|(from, to)| format!("{}>{}", from.as_str(), to.as_str())),
            protocol: error.protocol.into(),
            direction: error.direction.into(),
            count: error.count,
            age_ms: error.age.map(millis),
            peer_service: self.peer(error.peer),
        });
    }

    pub(super) fn retransmits(&self, record: &mut Record, retransmits: &Retransmits, service: ServiceId) {
        let who = self.names.service(service);
        record.message = format!(
            "{who}: {} retransmitted to {}",
            counted(retransmits.count, "segment"),
            retransmits.remote
        );
        record.event.outcome = Outcome::Failure;
        record.event.provider = retransmits.source.into();
        record.service = Some(self.service(service));
        record.retransmit = Some(wire::Retransmit {
            count: retransmits.count,
            server: endpoint(retransmits.remote),
            peer_service: self.peer(retransmits.peer),
        });
    }

    pub(super) fn accept_queue(&self, record: &mut Record, queue: &AcceptQueue, service: ServiceId) {
        record.message = format!(
            "{} does not accept its connections on port {}: {} wait, {} may",
            self.names.service(service),
            queue.port,
            queue.waiting,
            queue.backlog
        );
        record.event.outcome = Outcome::Failure;
        record.log.level = Level::Warn;
        record.event.provider = queue.source.into();
        record.service = Some(self.service(service));
        record.server = Some(endpoint(SocketAddr::new(queue.address, queue.port)));
        record.accept_queue = Some(wire::AcceptQueue { waiting: queue.waiting, backlog: queue.backlog });
    }

    pub(super) fn suspension(&self, record: &mut Record, stop: &Suspension, service: ServiceId) {
        let mut process = self.bare_process(stop.process);
        let target = Process::unknown(stop.process, 0);
        let signal = self.signal(stop.signal, false, stop.sender.as_ref(), &target);
        let by = signal.sender.as_ref().and_then(|sender| sender.name.clone());
        let by = by.map(|name| format!(" by {name}")).unwrap_or_default();
        record.message = format!(
            "{} (pid {}) was stopped with {}{by}",
            self.names.service(service),
            stop.process.pid,
            signal_name(stop.signal)
        );
        record.event.outcome = Outcome::Failure;
        record.log.level = Level::Warn;
        record.event.provider = wire::Provider::Ebpf;
        record.service = Some(self.service(service));
        process.received_signal = Some(signal);
        record.process = Some(process);
    }

    pub(super) fn dependency(
        &self,
        record: &mut Record,
        (client, server): (ServiceId, ServiceId),
        port: u16,
        source: Source,
    ) {
        let of = self.names.service(server);
        record.message =
            format!("{} depends on {of}: it connects to port {port}", self.names.service(client));
        record.event.provider = source.into();
        record.service = Some(self.service(client));
        record.dependency = Some(wire::Dependency { service: self.name(of), port });
    }

    fn peer(&self, peer: Peer) -> Option<String> {
        match peer {
            Peer::Service(service) => Some(self.name(self.names.service(service))),
            Peer::Local | Peer::Remote => None,
        }
    }
}

fn endpoint(address: SocketAddr) -> wire::Endpoint {
    wire::Endpoint { ip: address.ip().to_string(), port: address.port() }
}
