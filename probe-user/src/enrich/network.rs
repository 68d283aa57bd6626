//! This host's own addresses and network namespace.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use crate::{clock::Timestamp, host::ProcReader};

/// The host's addresses are read again after this time.
const ADDRESSES_STAY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct LocalNetwork {
    pub(super) netns: Option<u32>,
    pub(super) addresses: BTreeSet<IpAddr>,
    read: Timestamp,
}

impl LocalNetwork {
    pub fn new(reader: &ProcReader) -> Self {
        let netns = reader.netns(std::process::id());
        Self { netns, addresses: reader.addresses(), read: Timestamp::now() }
    }

    /// Whether a network namespace is the daemon's own; a namespace that is not known is taken for it.
    pub fn is_own(&self, netns: Option<u32>) -> bool {
        netns.is_none_or(|netns| self.netns.is_none_or(|own| own == netns))
    }

    /// Whether an address, as seen from a network namespace, is on this host.
    pub fn has(&mut self, address: IpAddr, netns: Option<u32>, reader: &ProcReader) -> bool {
        if address.is_loopback() {
            return true;
        }
        let now = Timestamp::now();
        if now.since(self.read) > ADDRESSES_STAY {
            (self.addresses, self.read) = (reader.addresses(), now);
        }
        // A connection to an unspecified address goes to the host itself.
        self.addresses.contains(&address) || (address.is_unspecified() && self.is_own(netns))
    }
}
