//! Segments that were sent again, which the kernel side only counts.

use std::{collections::HashMap, mem::offset_of, net::SocketAddr};

use aya::maps::{MapData, PerCpuHashMap};
use probe_abi as abi;

use super::{Cgroups, Owner, decode};

/// The layout of `probe_abi::PeerKey`, whose fields are read by their offsets.
type Peer = [u8; size_of::<abi::PeerKey>()];

/// The layout of `probe_abi::Retransmits`: count, parent, start, cgroups of both hierarchies.
type Counts = [u64; 5];

/// Rounds without a new segment after which a counter is taken out.
const QUIET_ROUNDS: u32 = 60;

/// Segments that a process had to send again to one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retransmits {
    /// Who sent them.
    pub owner: Owner,
    /// Where it runs.
    pub cgroups: Cgroups,
    /// To where; IPv4 also where an IPv6 socket speaks it.
    pub remote: SocketAddr,
    /// How many since the last look.
    pub count: u64,
}

/// The counters in the kernel, and what they read the last time.
pub struct Counted {
    counters: PerCpuHashMap<MapData, Peer, Counts>,
    known: HashMap<Peer, Known>,
}

#[derive(Default)]
struct Known {
    count: u64,
    quiet: u32,
}

impl Counted {
    pub fn new(counters: PerCpuHashMap<MapData, Peer, Counts>) -> Self {
        Self { counters, known: HashMap::new() }
    }

    /// What was counted since the last call.
    pub fn take(&mut self) -> Vec<Retransmits> {
        let mut news = Vec::new();
        let mut before = std::mem::take(&mut self.known);
        let mut quiet = Vec::new();
        for (peer, values) in self.counters.iter().filter_map(Result::ok) {
            let mut known = before.remove(&peer).unwrap_or_default();
            let total: u64 = values.iter().map(|[count, ..]| count).sum();
            // A counter that was pushed out by others and came back began anew.
            let more = total.checked_sub(known.count).unwrap_or(total);
            known.count = total;
            known.quiet = if more == 0 { known.quiet + 1 } else { 0 };
            if more > 0 {
                news.extend(retransmits(&peer, values.iter().max_by_key(|[_, _, start, ..]| *start), more));
            }
            if known.quiet > QUIET_ROUNDS {
                quiet.push(peer);
            } else {
                self.known.insert(peer, known);
            }
        }
        for peer in quiet {
            // One that is gone already is what is wanted.
            let _ = self.counters.remove(&peer);
        }
        news
    }
}

/// None for a key of no address family there is.
fn retransmits(peer: &Peer, owner: Option<&Counts>, count: u64) -> Option<Retransmits> {
    let [_, parent, start_ns, v2, memory_v1] = *owner?;
    let at = |offset: usize| peer.get(offset..);
    let u16_at = |offset: usize| at(offset)?.first_chunk().copied().map(u16::from_ne_bytes);
    let address = at(offset_of!(abi::PeerKey, addr))?.first_chunk().copied()?;
    let address = decode::address(u16_at(offset_of!(abi::PeerKey, family))?, address).ok()?;
    let pid = at(offset_of!(abi::PeerKey, tgid))?.first_chunk().copied().map(u32::from_ne_bytes)?;
    let known = |id: u64| (id != 0).then_some(id);
    Some(Retransmits {
        owner: Owner { pid, parent_pid: u32::try_from(parent).unwrap_or_default(), start_ns },
        cgroups: Cgroups { v2: known(v2), memory_v1: known(memory_v1) },
        remote: SocketAddr::new(address.to_canonical(), u16_at(offset_of!(abi::PeerKey, port))?),
        count,
    })
}
