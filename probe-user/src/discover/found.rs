//! A service that discovery found, and how several become one.

use std::collections::BTreeSet;

use crate::config::Service;

/// What runs on a host.
#[derive(Clone, Debug, Default)]
pub struct Discovered {
    /// Those that listen on TCP.
    pub services: Vec<Found>,
    /// The services of systemd that have processes, whether they listen or not; without hostprobe itself.
    pub units: BTreeSet<String>,
}

/// A service found on this host.
#[derive(Clone, Debug)]
pub struct Found {
    /// It, ready to be watched: never restarted, known by its port and the file it executes.
    pub service: Service,
    /// The systemd unit it runs in. Only systemd may restart it, so a configuration should name the unit.
    pub unit: Option<String>,
    /// All ports it listens on, in order.
    pub ports: Vec<u16>,
}

/// Makes one service of those that are the `same`, in the place of the first.
pub(super) fn merge(found: Vec<Found>, same: impl Fn(&Found, &Found) -> bool) -> Vec<Found> {
    let mut merged: Vec<Found> = Vec::new();
    for more in found {
        match merged.iter_mut().find(|one| same(one, &more)) {
            None => merged.push(more),
            Some(one) => {
                one.service.probes.extend(more.service.probes);
                one.ports.extend(more.ports);
                one.ports.sort_unstable();
                one.ports.dedup();
            }
        }
    }
    merged
}
