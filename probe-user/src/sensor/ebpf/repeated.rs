//! Errors of sockets after the first of their kind, which the kernel side only counts.

use std::collections::HashMap;

use aya::maps::{MapData, PerCpuHashMap};

use super::SocketError;

/// Repeats of one kind are told at most this often, and a kind without any for so long is new again, in nanoseconds.
const WINDOW_NS: u64 = 10_000_000_000;

/// The layout of `probe_abi::ErrorKey`.
type Kind = [u64; 4];

/// The counters in the kernel, and what is known of each.
pub struct Repeated {
    // The value has the layout of `probe_abi::Repeats`: count, time of the last one.
    counters: PerCpuHashMap<MapData, Kind, [u64; 2]>,
    known: HashMap<Kind, Known>,
}

/// One kind of error.
struct Known {
    first: SocketError,
    /// Repeats that were told.
    told: u64,
    /// When the last event of this kind was.
    told_ns: u64,
}

impl Repeated {
    pub fn new(counters: PerCpuHashMap<MapData, Kind, [u64; 2]>) -> Self {
        Self { counters, known: HashMap::new() }
    }

    /// Notes the first error of a kind.
    pub fn first(&mut self, error: &SocketError) {
        let known = Known { first: error.clone(), told: 0, told_ns: error.at_ns };
        self.known.insert(error.kind, known);
    }

    /// What has been repeated, where it is time to tell.
    pub fn take(&mut self, now_ns: u64) -> Vec<SocketError> {
        let mut repeated = Vec::new();
        let Self { counters, known } = self;
        known.retain(|kind, known| {
            if now_ns.saturating_sub(known.told_ns) < WINDOW_NS {
                return true;
            }
            // One that was pushed out by others is new again when it comes back; so is one that has been quiet.
            let Ok(values) = counters.get(kind, 0) else { return false };
            let count: u64 = values.iter().map(|[count, _]| count).sum();
            let last_ns = values.iter().map(|[_, last_ns]| *last_ns).max().unwrap_or_default();
            // It was pushed out, and came back: its counter began anew.
            let before = if count < known.told { 0 } else { known.told };
            if count == before {
                return counters.remove(kind).is_err();
            }
            let error = SocketError { at_ns: last_ns, count: count - before, ..known.first.clone() };
            repeated.push(error);
            known.told = count;
            known.told_ns = now_ns;
            true
        });
        repeated
    }
}
