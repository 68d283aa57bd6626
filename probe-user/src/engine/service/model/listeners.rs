//! The sockets that a service listens on, as the kernel reports them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    clock::Timestamp,
    fact::{EventId, Source},
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
}

#[derive(Debug)]
pub struct Listeners {
    /// The number of listening sockets per port.
    open: BTreeMap<u16, u32>,
    /// The ports of its probes and its matcher. Other ports may open and close.
    expected: BTreeSet<u16>,
}

impl Listeners {
    pub fn new(expected: BTreeSet<u16>) -> Self {
        Self { open: BTreeMap::new(), expected }
    }

    pub fn clear(&mut self) {
        self.open.clear();
    }

    pub fn add(&mut self, port: u16) {
        *self.open.entry(port).or_default() += 1;
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
        self.expected.contains(&port)
    }

    pub fn expected(&self) -> Vec<u16> {
        self.expected.iter().copied().collect()
    }

    pub fn has_all_expected(&self) -> bool {
        self.expected.iter().all(|port| self.open.contains_key(port))
    }

    pub fn has_any_expected(&self) -> bool {
        self.expected.iter().any(|port| self.open.contains_key(port))
    }
}
