//! `tcp_retransmit_skb`: the kernel sends a segment again. The program only counts: a bad link causes thousands.

use aya_ebpf::{
    macros::{map, raw_tracepoint},
    maps::LruPerCpuHashMap,
    programs::RawTracePointContext,
};
use probe_abi::{PeerKey, Retransmits};

use super::{owners, probes, sock};

/// Retransmitted segments of watched processes. The daemon reads the counts.
#[map]
static RETRANSMITS: LruPerCpuHashMap<PeerKey, Retransmits> = LruPerCpuHashMap::with_max_entries(2048, 0);

/// Program for the raw tracepoint `tcp_retransmit_skb(sock, skb [, …])`.
#[raw_tracepoint(tracepoint = "tcp_retransmit_skb")]
pub fn tcp_retransmit_skb(ctx: RawTracePointContext) -> i32 {
    let socket = ctx.arg::<u64>(0);
    let noted = owners::of(socket);
    let Some(owner) = noted.owner() else { return 0 };
    let owner = *owner;
    if probes::is_prober(owner.tgid) || !owner.is_watched() {
        return 0;
    }
    let key = sock::peer(socket, owner.tgid);
    if let Some(counted) = RETRANSMITS.get_ptr_mut(&key) {
        // SAFETY: the lookup returned a valid slot of this CPU.
        unsafe {
            (*counted).count += 1;
            (*counted).ppid = u64::from(owner.ppid);
            (*counted).start_ns = owner.start_ns;
            (*counted).cgroup_v2 = owner.cgroup_v2;
            (*counted).cgroup_mem_v1 = owner.cgroup_mem_v1;
        }
        return 0;
    }
    let first = Retransmits {
        count: 1,
        ppid: u64::from(owner.ppid),
        start_ns: owner.start_ns,
        cgroup_v2: owner.cgroup_v2,
        cgroup_mem_v1: owner.cgroup_mem_v1,
    };
    let _ = RETRANSMITS.insert(&key, &first, 0);
    0
}
