//! Whose sockets they are, and what is at their other ends.

use std::net::SocketAddr;

use super::Enricher;
use crate::{
    clock::Timestamp,
    fact::{AcceptQueue, Direction, Listener, Peer, ProcessKey, Retransmits, ServiceId, SocketError},
    sensor::record::{self, Cgroups, Owner},
};

impl Enricher {
    /// A listener came or went; the service it belongs to, if any.
    pub fn listener(&self, record: &record::Listen) -> (Listener, Option<ServiceId>) {
        let process = ProcessKey::new(record.pid, Timestamp::from_nanos(record.start_ns));
        let parent = self.table.get(process).map_or(0, |known| known.parent_pid);
        let service = self
            .member(process, parent, &record.cgroups, None)
            .map(|member| member.service)
            .or_else(|| self.members.expecting(record.port).filter(|_| self.is_around(record.pid)));
        let at = Timestamp::from_nanos(record.at_ns);
        let (up, address, port) = (record.up, record.address, record.port);
        (Listener { at, up, address, port, source: record.source, process }, service)
    }

    /// Whether a process is in the daemon's own network namespace, where probes look for ports. One that is gone may have
    /// been.
    fn is_around(&self, pid: u32) -> bool {
        let own = self.reader.netns(std::process::id());
        self.reader.netns(pid).is_none_or(|netns| Some(netns) == own)
    }

    /// An error of a socket, and whose it is; None if that is no service.
    pub fn socket_error(&mut self, record: &record::SocketError) -> Option<(SocketError, ServiceId)> {
        let (service, process) = match self.owned_by(record.owner, &record.cgroups) {
            Some(service) => (service, record.owner.map(|owner| key(&owner))),
            None if record.direction == Direction::Inbound => {
                (self.served_by(record.local.port(), record.netns)?, None)
            }
            None => return None,
        };
        let at = Timestamp::from_nanos(record.at_ns);
        // Of several, the last came of another connection than the first.
        let since = record.since_ns.filter(|_| record.count == 1);
        let error = SocketError {
            at,
            source: record.source,
            errno: record.errno,
            transition: record.transition,
            protocol: record.protocol,
            direction: record.direction,
            local: record.local,
            remote: record.remote,
            peer: match record.direction {
                Direction::Outbound => self.peer(record.remote, record.netns),
                // The port of a client does not identify it.
                Direction::Inbound if self.network.has(record.remote.ip(), record.netns, &self.reader) => {
                    Peer::Local
                }
                Direction::Inbound => Peer::Remote,
            },
            process,
            count: record.count,
            age: since.map(|since| at.since(Timestamp::from_nanos(since))),
        };
        Some((error, service))
    }

    /// Segments that were sent again, and whose they are; None if no service's.
    pub fn retransmits(
        &mut self,
        record: &record::Retransmits,
        at: Timestamp,
    ) -> Option<(Retransmits, ServiceId)> {
        let service = self.owned_by(Some(record.owner), &record.cgroups)?;
        let peer = self.peer(record.remote, None);
        let (remote, count) = (record.remote, record.count);
        Some((Retransmits { at, source: record.source, remote, peer, count }, service))
    }

    /// A full accept queue, and whose it is; None if no service's.
    pub fn accept_queue(&self, record: &record::AcceptQueue) -> Option<(AcceptQueue, ServiceId)> {
        let by_port = || self.served_by(record.local.port(), record.netns);
        let service = self.owned_by(Some(record.owner), &record.cgroups).or_else(by_port)?;
        let queue = AcceptQueue {
            at: Timestamp::from_nanos(record.at_ns),
            source: record.source,
            address: record.local.ip(),
            port: record.local.port(),
            waiting: record.waiting,
            backlog: record.backlog,
        };
        Some((queue, service))
    }

    /// The service whose process has connected; None if it is no service's.
    pub fn client(&self, record: &record::Connect) -> Option<ServiceId> {
        self.owned_by(Some(record.owner), &record.cgroups)
    }

    /// What is at a server's address, as seen from a network namespace; None stands for the daemon's own.
    ///
    /// What has no process here is known by the addresses that probes have in numbers: a name may stand for many. It may be on
    /// this host all the same, only probed.
    pub fn peer(&mut self, remote: SocketAddr, netns: Option<u32>) -> Peer {
        if !self.network.has(remote.ip(), netns, &self.reader) {
            return self.members.elsewhere(remote).map_or(Peer::Remote, Peer::Service);
        }
        // The loopback of another namespace leads to nothing that is known by its port here.
        let netns = netns.filter(|_| remote.ip().is_loopback());
        let probed = || self.network.is_own(netns).then(|| self.members.elsewhere(remote)).flatten();
        let service = self.served_by(remote.port(), netns).or_else(probed);
        service.map_or(Peer::Local, Peer::Service)
    }

    /// The service whose port it is, in a network namespace. The process that listens need not be the service's:
    /// systemd listens for services that it starts on demand.
    fn served_by(&self, port: u16, netns: Option<u32>) -> Option<ServiceId> {
        self.network.is_own(netns).then(|| self.members.serving(port)).flatten()
    }

    /// The service that the owner of a socket belongs to. The daemon's own sockets belong to none.
    fn owned_by(&self, owner: Option<Owner>, cgroups: &Cgroups) -> Option<ServiceId> {
        let unknown = Owner { pid: 0, parent_pid: 0, start_ns: 0 };
        let owner = owner.unwrap_or(unknown);
        if owner.pid == std::process::id() {
            return None;
        }
        let member = self.member(key(&owner), owner.parent_pid, cgroups, None);
        member.map(|member| member.service)
    }
}

fn key(owner: &Owner) -> ProcessKey {
    ProcessKey::new(owner.pid, Timestamp::from_nanos(owner.start_ns))
}

#[cfg(test)]
mod tests;
