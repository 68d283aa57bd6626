//! Segments that were sent again, which the kernel side only counts.

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

/// What is sent again to one address is told this often, sooner only if it has doubled since, and forgotten after so
/// long without, in nanoseconds.
const WINDOW_NS: u64 = 10_000_000_000;

/// Most addresses told of in one go; the others wait for the next, and their segments are added up.
const AT_ONCE: usize = 32;

/// The counters in the kernel, and what they read the last time.
pub struct Counted {
    counters: PerCpuHashMap<MapData, Peer, Counts>,
    known: HashMap<Peer, Known>,
}

#[derive(Clone, Copy, Default)]
struct Known {
    told: u64,
    told_ns: u64,
}

impl Counted {
    pub fn new(counters: PerCpuHashMap<MapData, Peer, Counts>) -> Self {
        Self { counters, known: HashMap::new() }
    }

    /// What was counted since it was last told: most first, new addresses at once.
    pub fn take(&mut self, now_ns: u64) -> Vec<Retransmits> {
        let mut news = Vec::new();
        let mut quiet = Vec::new();
        let before = std::mem::take(&mut self.known);
        for (peer, values) in self.counters.iter().filter_map(Result::ok) {
            let known = before.get(&peer).copied().unwrap_or_default();
            self.known.insert(peer, known);
            let total: u64 = values.iter().map(|[count, ..]| count).sum();
            // A counter that was pushed out by others and came back began anew.
            let more = total.checked_sub(known.told).unwrap_or(total);
            if more < known.told && now_ns.saturating_sub(known.told_ns) < WINDOW_NS {
                continue;
            }
            let owner = values.iter().max_by_key(|[_, _, start, ..]| *start).copied();
            match owner.and_then(|owner| retransmits(&peer, owner, more, now_ns)) {
                Some(again) if more > 0 => news.push((again, peer, total)),
                Some(_) | None => quiet.push(peer),
            }
        }
        for peer in quiet {
            self.known.remove(&peer);
            // One that is gone already is what is wanted.
            let _ = self.counters.remove(&peer);
        }
        news.sort_by_key(|(again, ..)| std::cmp::Reverse(again.count));
        news.truncate(AT_ONCE);
        for (_, peer, total) in &news {
            self.known.insert(*peer, Known { told: *total, told_ns: now_ns });
        }
        news.into_iter().map(|(again, ..)| again).collect()
    }
}

/// None for a key of no address family there is.
fn retransmits(peer: &Peer, owner: Counts, count: u64, at_ns: u64) -> Option<Retransmits> {
    let [_, parent, start_ns, v2, memory_v1] = owner;
    let at = |offset: usize| peer.get(offset..);
    let u16_at = |offset: usize| at(offset)?.first_chunk().copied().map(u16::from_ne_bytes);
    let address = at(offset_of!(abi::PeerKey, addr))?.first_chunk().copied()?;
    let address = decode::address(u16_at(offset_of!(abi::PeerKey, family))?, address).ok()?;
    let pid = at(offset_of!(abi::PeerKey, tgid))?.first_chunk().copied().map(u32::from_ne_bytes)?;
    let known = |id: u64| (id != 0).then_some(id);
    Some(Retransmits {
        at_ns,
        source: Source::Ebpf,
        owner: Owner { pid, parent_pid: u32::try_from(parent).unwrap_or_default(), start_ns },
        cgroups: Cgroups { v2: known(v2), memory_v1: known(memory_v1) },
        remote: SocketAddr::new(address.to_canonical(), u16_at(offset_of!(abi::PeerKey, port))?),
        count,
    })
}
