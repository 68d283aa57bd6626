//! Socket errors, and faults of the host, after the first of their kind, which the eBPF programs only count.

use std::{collections::HashMap, hash::Hash};

use aya::{
    Pod,
    maps::{MapData, PerCpuHashMap},
};

use crate::sensor::record::{FAULT_KIND_WORDS, HostReport, SocketError};

/// Repeats of one kind are reported at most once in this time. A kind without any for so long is new again.
const WINDOW_NS: u64 = 10_000_000_000;

/// The counts of [`SocketError`]s, whose kind has the layout of `probe_abi::ErrorKey`.
pub type ErrorCounts = RepeatCounts<[u64; 4], CountAndTime, SocketError>;

/// The counts of [`HostReport`]s, whose kind has the layout of `probe_abi::FaultKey`.
pub type FaultCounts = RepeatCounts<[u64; FAULT_KIND_WORDS], u64, HostReport>;

/// The layout of `probe_abi::Repeats`: a count, and the time of the last one.
pub type CountAndTime = [u64; 2];

/// What one CPU counted of a kind.
pub trait Counter: Pod {
    fn count(&self) -> u64;

    /// None if the program does not note it.
    fn last_ns(&self) -> Option<u64>;
}

impl Counter for CountAndTime {
    fn count(&self) -> u64 {
        self[0]
    }

    fn last_ns(&self) -> Option<u64> {
        Some(self[1])
    }
}

impl Counter for u64 {
    fn count(&self) -> u64 {
        *self
    }

    fn last_ns(&self) -> Option<u64> {
        None
    }
}

/// A record that stands for those of its kind.
pub trait Repeatable: Clone {
    type Kind;

    /// None if the programs do not count its kind.
    fn kind(&self) -> Option<Self::Kind>;

    fn at_ns(&self) -> u64;

    /// The same again, so often until then.
    #[must_use]
    fn repeated(&self, count: u64, at_ns: u64) -> Self;
}

impl Repeatable for SocketError {
    type Kind = [u64; 4];

    fn kind(&self) -> Option<Self::Kind> {
        Some(self.kind)
    }

    fn at_ns(&self) -> u64 {
        self.at_ns
    }

    fn repeated(&self, count: u64, at_ns: u64) -> Self {
        Self { count, at_ns, ..self.clone() }
    }
}

impl Repeatable for HostReport {
    type Kind = [u64; FAULT_KIND_WORDS];

    fn kind(&self) -> Option<Self::Kind> {
        self.kind
    }

    fn at_ns(&self) -> u64 {
        self.at_ns
    }

    fn repeated(&self, count: u64, at_ns: u64) -> Self {
        Self { count, at_ns, ..self.clone() }
    }
}

/// The counters in the kernel, and the last report of each kind.
pub struct RepeatCounts<K: Pod, C: Counter, R> {
    counters: PerCpuHashMap<MapData, K, C>,
    reported: HashMap<K, Reported<R>>,
}

struct Reported<R> {
    first: R,
    /// Reported repeats.
    count: u64,
    /// Of the last report, or of the first one of its kind.
    at_ns: u64,
}

impl<K: Pod + Eq + Hash, C: Counter, R: Repeatable<Kind = K>> RepeatCounts<K, C, R> {
    pub fn new(counters: PerCpuHashMap<MapData, K, C>) -> Self {
        Self { counters, reported: HashMap::new() }
    }

    pub fn add_first(&mut self, first: &R) {
        if let Some(kind) = first.kind() {
            let reported = Reported { first: first.clone(), count: 0, at_ns: first.at_ns() };
            self.reported.insert(kind, reported);
        }
    }

    /// The repeats that are due.
    pub fn take(&mut self, now_ns: u64) -> Vec<R> {
        let mut repeats = Vec::new();
        let Self { counters, reported } = self;
        reported.retain(|kind, last| {
            if now_ns.saturating_sub(last.at_ns) < WINDOW_NS {
                return true;
            }
            // An evicted kind is new again at its next error. So is one that was quiet, see below.
            let Ok(values) = counters.get(kind, 0) else { return false };
            let count: u64 = values.iter().map(Counter::count).sum();
            let last_ns = values.iter().filter_map(Counter::last_ns).max().unwrap_or(now_ns);
            // A counter that was evicted and inserted again starts from 0.
            let before = if count < last.count { 0 } else { last.count };
            if count == before {
                return counters.remove(kind).is_err();
            }
            repeats.push(last.first.repeated(count - before, last_ns));
            last.count = count;
            last.at_ns = now_ns;
            true
        });
        repeats
    }
}
