//! The sockets that a service listens on, as the kernel reports them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use crate::{
    clock::Timestamp,
    fact::{EventId, Source, process::accepts},
};

/// How long a listener may be closed before a living process counts as not listening. A reload that closes and
/// reopens it takes less.
pub const LISTENER_GONE: Duration = Duration::from_millis(250);

/// An expected listener that has closed.
#[derive(Clone, Copy, Debug)]
pub struct LostListener {
    pub since: Timestamp,
    pub event: EventId,
    pub port: u16,
    pub source: Source,
    /// The daemon checks whether another process of the service holds one.
    pub checked: bool,
}

#[derive(Debug)]
pub struct Listeners {
    /// The number of listening sockets per port.
    open: BTreeMap<u16, u32>,
    /// The ports of its probes and its matcher. Other ports may open and close.
    /// With the address on which it is expected, if a probe names one.
    expected: BTreeMap<u16, Option<IpAddr>>,
    /// The ports that it has ever listened on; bounded by their number.
    seen: BTreeSet<u16>,
}

impl Listeners {
    pub fn new(expected: BTreeMap<u16, Option<IpAddr>>) -> Self {
        Self { open: BTreeMap::new(), expected, seen: BTreeSet::new() }
    }

    /// A reload changed what is expected.
    pub fn expect(&mut self, expected: BTreeMap<u16, Option<IpAddr>>) {
        self.expected = expected;
    }

    pub fn clear(&mut self) {
        self.open.clear();
    }

    pub fn add(&mut self, port: u16) {
        *self.open.entry(port).or_default() += 1;
        self.seen.insert(port);
    }

    /// Whether it listens on a port, as far as the kernel has reported.
    pub fn is_open(&self, port: u16) -> bool {
        self.open.contains_key(&port)
    }

    /// Whether it has listened on a port since the configuration was loaded.
    pub fn has_listened(&self, port: u16) -> bool {
        self.seen.contains(&port)
    }

    /// True if it was the last counted listener on its port.
    pub fn remove(&mut self, port: u16) -> bool {
        let Some(count) = self.open.get_mut(&port) else { return false };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            self.open.remove(&port);
        }
        is_last
    }

    pub fn expects(&self, port: u16) -> bool {
        self.expected.contains_key(&port)
    }

    /// Whether a socket with this address matters. Clients of the service do not reach one on another address.
    pub fn concerns(&self, address: IpAddr, port: u16) -> bool {
        self.expected.get(&port).copied().flatten().is_none_or(|expected| accepts(address, expected))
    }

    pub fn expected(&self) -> Vec<u16> {
        self.expected.keys().copied().collect()
    }

    /// The ports that a successor of the main process should listen on, and whether the main process did: the expected
    /// ones if it listened on one of them, else those that it listened on.
    pub fn to_pass_on(&self) -> (Vec<u16>, bool) {
        if self.has_any_expected() || self.open.is_empty() {
            return (self.expected(), self.has_any_expected());
        }
        (self.open.keys().copied().collect(), true)
    }

    pub fn has_all_expected(&self) -> bool {
        self.expected.keys().all(|port| self.open.contains_key(port))
    }

    pub fn has_any_expected(&self) -> bool {
        self.expected.keys().any(|port| self.open.contains_key(port))
    }
}
