//! Errors of a service that were published a short while ago: the same error is not published for each of its processes.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
    time::Duration,
};

use crate::{
    clock::Timestamp,
    fact::{Direction, Protocol, ServiceId, SocketError, TcpState},
};

/// Errors of one kind are published at most this often.
const WINDOW: Duration = Duration::from_secs(10);

/// Most kinds that are kept. Errors of other kinds are published as they come; the eBPF programs limit them.
const KINDS: usize = 1024;

/// What makes two errors of a service the same: not which of its processes had it.
type Kind = (ServiceId, u16, Option<(TcpState, TcpState)>, Protocol, Direction, SocketAddr);

#[derive(Debug, Default)]
pub struct RecentErrors {
    kinds: HashMap<Kind, Published>,
}

#[derive(Debug)]
struct Published {
    at: Timestamp,
    /// How many were held back since.
    held: u64,
    latest: SocketError,
}

impl RecentErrors {
    pub const LIMIT: usize = KINDS;

    /// A reload removed a service.
    pub fn remove(&mut self, service: ServiceId) {
        self.kinds.retain(|(of, ..), _| *of != service);
    }

    /// How many kinds are kept.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// The error to publish now; None if it is summed up later.
    pub fn admit(&mut self, service: ServiceId, error: SocketError, now: Timestamp) -> Option<SocketError> {
        let full = self.kinds.len() >= KINDS;
        match self.kinds.entry(kind(service, &error)) {
            Entry::Occupied(mut entry) => {
                let published = entry.get_mut();
                published.held += error.count;
                published.latest = error;
                published.due(now)
            }
            Entry::Vacant(_) if full => Some(error),
            Entry::Vacant(entry) => {
                entry.insert(Published { at: now, held: 0, latest: error.clone() });
                Some(error)
            }
        }
    }

    /// The sums that were held back for long enough. Kinds without new errors are dropped.
    pub fn due(&mut self, now: Timestamp) -> Vec<(SocketError, ServiceId)> {
        let mut due = Vec::new();
        self.kinds.retain(|kind, published| {
            let sum = published.due(now);
            let keep = sum.is_some() || now.since(published.at) < WINDOW;
            due.extend(sum.map(|sum| (sum, kind.0)));
            keep
        });
        due
    }
}

impl Published {
    /// The sum of the errors held back, if it is due.
    fn due(&mut self, now: Timestamp) -> Option<SocketError> {
        if self.held == 0 || now.since(self.at) < WINDOW {
            return None;
        }
        self.at = now;
        let count = std::mem::take(&mut self.held);
        // The age is that of one connection.
        let age = self.latest.age.filter(|_| count == 1);
        Some(SocketError { count, age, ..self.latest.clone() })
    }
}

fn kind(service: ServiceId, error: &SocketError) -> Kind {
    let server = match error.direction {
        Direction::Outbound => error.remote,
        // Clients come from another port each time.
        Direction::Inbound => SocketAddr::new(error.remote.ip(), error.local.port()),
    };
    (service, error.errno, error.transition, error.protocol, error.direction, server)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{Peer, Source};

    const WEB: ServiceId = ServiceId(0);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn error(seconds: u64, count: u64) -> SocketError {
        SocketError {
            at: at(seconds),
            source: Source::Ebpf,
            errno: 111,
            transition: None,
            protocol: Protocol::Tcp,
            direction: Direction::Outbound,
            local: ([127, 0, 0, 1], 50_000).into(),
            remote: ([127, 0, 0, 1], 80).into(),
            peer: Peer::Local,
            process: None,
            count,
            age: Some(Duration::from_micros(50)),
        }
    }

    #[test]
    fn the_first_is_published_and_the_others_are_summed_up() {
        let mut recent = RecentErrors::default();
        assert_eq!(recent.admit(WEB, error(100, 1), at(100)), Some(error(100, 1)));
        assert_eq!(recent.admit(WEB, error(101, 1), at(101)), None);
        assert_eq!(recent.admit(WEB, error(102, 5), at(102)), None);
        assert_eq!(recent.due(at(109)), []);
        let sum = SocketError { age: None, ..error(102, 6) };
        assert_eq!(recent.due(at(110)), [(sum, WEB)]);
        assert_eq!(recent.due(at(119)), []);
        // After a while of none, the next one is a first.
        assert_eq!(recent.due(at(120)), []);
        assert_eq!(recent.admit(WEB, error(121, 1), at(121)), Some(error(121, 1)));
    }

    #[test]
    fn an_error_that_comes_when_a_sum_is_due_is_part_of_it() {
        let mut recent = RecentErrors::default();
        recent.admit(WEB, error(100, 1), at(100));
        recent.admit(WEB, error(101, 1), at(101));
        let sum = recent.admit(WEB, error(111, 3), at(111));
        assert_eq!(sum.map(|sum| (sum.count, sum.at)), Some((4, at(111))));
        assert_eq!(recent.due(at(112)), []);
    }

    #[test]
    fn other_services_other_errors_and_other_servers_are_others() {
        let mut recent = RecentErrors::default();
        let mut admitted = |service, error: SocketError| recent.admit(service, error, at(100)).is_some();
        assert!(admitted(WEB, error(100, 1)));
        assert!(admitted(ServiceId(1), error(100, 1)));
        assert!(admitted(WEB, SocketError { errno: 104, ..error(100, 1) }));
        assert!(admitted(WEB, SocketError { remote: ([127, 0, 0, 1], 81).into(), ..error(100, 1) }));
        let inbound = SocketError { direction: Direction::Inbound, ..error(100, 1) };
        assert!(admitted(WEB, inbound.clone()));
        let from_elsewhere = SocketError { remote: ([127, 0, 0, 1], 9999).into(), ..inbound };
        assert!(!admitted(WEB, from_elsewhere), "a client's port does not matter");
    }

    #[test]
    fn beyond_so_many_kinds_errors_are_published_as_they_come() {
        let mut recent = RecentErrors::default();
        for errno in 0..2000 {
            assert!(recent.admit(WEB, SocketError { errno, ..error(100, 1) }, at(100)).is_some());
        }
        assert_eq!(recent.kinds.len(), KINDS);
        assert!(recent.admit(WEB, SocketError { errno: 1999, ..error(100, 1) }, at(100)).is_some());
        assert!(recent.admit(WEB, error(100, 1), at(100)).is_none());
    }
}
