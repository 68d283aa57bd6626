//! Socket errors after the first of their kind, which the eBPF programs only count.

use std::collections::HashMap;

use aya::maps::{MapData, PerCpuHashMap};

use crate::sensor::record::SocketError;

/// Repeats of one kind are reported at most once in this time. A kind without any for so long is new again.
const WINDOW_NS: u64 = 10_000_000_000;

/// The layout of `probe_abi::ErrorKey`.
type Kind = [u64; 4];

/// The counters in the kernel, and the last report of each kind.
pub struct RepeatCounts {
    // The value has the layout of `probe_abi::Repeats`: count, time of the last one.
    counters: PerCpuHashMap<MapData, Kind, [u64; 2]>,
    reported: HashMap<Kind, Reported>,
}

struct Reported {
    first: SocketError,
    /// Reported repeats.
    count: u64,
    /// Of the last report, or of the first error.
    at_ns: u64,
}

impl RepeatCounts {
    pub fn new(counters: PerCpuHashMap<MapData, Kind, [u64; 2]>) -> Self {
        Self { counters, reported: HashMap::new() }
    }

    pub fn add_first(&mut self, error: &SocketError) {
        let reported = Reported { first: error.clone(), count: 0, at_ns: error.at_ns };
        self.reported.insert(error.kind, reported);
    }

    /// The repeats that are due.
    pub fn take(&mut self, now_ns: u64) -> Vec<SocketError> {
        let mut repeats = Vec::new();
        let Self { counters, reported } = self;
        reported.retain(|kind, last| {
            if now_ns.saturating_sub(last.at_ns) < WINDOW_NS {
                return true;
            }
            // An evicted kind is new again at its next error. So is one that was quiet, see below.
            let Ok(values) = counters.get(kind, 0) else { return false };
            let count: u64 = values.iter().map(|[count, _]| count).sum();
            let last_ns = values.iter().map(|[_, last_ns]| *last_ns).max().unwrap_or_default();
            // A counter that was evicted and inserted again starts from 0.
            let before = if count < last.count { 0 } else { last.count };
            if count == before {
                return counters.remove(kind).is_err();
            }
            let error = SocketError { at_ns: last_ns, count: count - before, ..last.first.clone() };
            repeats.push(error);
            last.count = count;
            last.at_ns = now_ns;
            true
        });
        repeats
    }
}
