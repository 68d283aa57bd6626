//! Retransmitted segments, which the eBPF programs only count.

use std::{collections::HashMap, mem::offset_of, net::SocketAddr};

use aya::maps::{MapData, PerCpuHashMap};
use probe_abi as abi;

use super::decode;
use crate::{
    fact::Source,
    sensor::record::{Cgroups, Owner, Retransmits},
};

/// The layout of `probe_abi::PeerKey`, whose fields are read by their offsets.
type Peer = [u8; size_of::<abi::PeerKey>()];

/// The layout of `probe_abi::Retransmits`: count, parent, start, cgroups of both hierarchies.
type Counts = [u64; 5];

/// Retransmits to one address are reported once in this time, or sooner if the count has doubled. After this time
/// without any, the address is forgotten.
const WINDOW_NS: u64 = 10_000_000_000;

/// Most addresses in one report. The counts of the others go on, and the next report has them.
const BATCH: usize = 32;

/// The counters in the kernel, and their values at the last report.
pub struct RetransmitCounts {
    counters: PerCpuHashMap<MapData, Peer, Counts>,
    reported: HashMap<Peer, Reported>,
}

#[derive(Clone, Copy, Default)]
struct Reported {
    count: u64,
    at_ns: u64,
}

impl RetransmitCounts {
    pub fn new(counters: PerCpuHashMap<MapData, Peer, Counts>) -> Self {
        Self { counters, reported: HashMap::new() }
    }

    /// The counts that are due, the largest first. A new address is due at once.
    pub fn take(&mut self, now_ns: u64) -> Vec<Retransmits> {
        let mut due = Vec::new();
        let mut quiet = Vec::new();
        let before = std::mem::take(&mut self.reported);
        for (peer, values) in self.counters.iter().filter_map(Result::ok) {
            let last = before.get(&peer).copied().unwrap_or_default();
            self.reported.insert(peer, last);
            let total: u64 = values.iter().map(|[count, ..]| count).sum();
            // A counter that was evicted and inserted again starts from 0.
            let more = total.checked_sub(last.count).unwrap_or(total);
            if more < last.count && now_ns.saturating_sub(last.at_ns) < WINDOW_NS {
                continue;
            }
            let owner = values.iter().max_by_key(|[_, _, start, ..]| *start).copied();
            match owner.and_then(|owner| retransmits(&peer, owner, more, now_ns)) {
                Some(retransmits) if more > 0 => due.push((retransmits, peer, total)),
                Some(_) | None => quiet.push(peer),
            }
        }
        for peer in quiet {
            self.reported.remove(&peer);
            // It may have been evicted already.
            let _ = self.counters.remove(&peer);
        }
        due.sort_by_key(|(retransmits, ..)| std::cmp::Reverse(retransmits.count));
        due.truncate(BATCH);
        for (_, peer, total) in &due {
            self.reported.insert(*peer, Reported { count: *total, at_ns: now_ns });
        }
        due.into_iter().map(|(retransmits, ..)| retransmits).collect()
    }
}

/// None for a key with an unknown address family.
fn retransmits(peer: &Peer, owner: Counts, count: u64, at_ns: u64) -> Option<Retransmits> {
    let [_, parent, start_ns, v2, memory_v1] = owner;
    let at = |offset: usize| peer.get(offset..);
    let u16_at = |offset: usize| at(offset)?.first_chunk().copied().map(u16::from_ne_bytes);
    let address = at(offset_of!(abi::PeerKey, addr))?.first_chunk().copied()?;
    let address = decode::address(u16_at(offset_of!(abi::PeerKey, family))?, address).ok()?;
    let pid = at(offset_of!(abi::PeerKey, tgid))?.first_chunk().copied().map(u32::from_ne_bytes)?;
    let nonzero = |id: u64| (id != 0).then_some(id);
    Some(Retransmits {
        at_ns,
        source: Source::Ebpf,
        owner: Owner { pid, parent_pid: u32::try_from(parent).unwrap_or_default(), start_ns },
        cgroups: Cgroups { v2: nonzero(v2), memory_v1: nonzero(memory_v1) },
        remote: SocketAddr::new(address.to_canonical(), u16_at(offset_of!(abi::PeerKey, port))?),
        count,
    })
}
