//! The daemon's own connections: its probes. A probe reports its errors itself, so the programs report them at neither end.

use aya_ebpf::{Global, helpers::bpf_ktime_get_boot_ns, macros::map, maps::LruHashMap};
use probe_abi::PortKey;

/// Thread group id of the process that probes: the daemon, or 0 for none.
#[unsafe(no_mangle)]
static PROBER: Global<u32> = Global::new(0);

/// After a probe closes its socket, the other end may report the close for this long.
const CLOSE_GRACE_NS: u64 = 5_000_000_000;

/// Local ports of the probes' sockets, each with the time of its close, or 0 while it is open.
#[map]
static PROBE_PORTS: LruHashMap<PortKey, u64> = LruHashMap::with_max_entries(1024, 0);

#[inline(always)]
pub fn is_prober(tgid: u32) -> bool {
    let prober = PROBER.load();
    prober != 0 && tgid == prober
}

/// A probe connected from this port.
#[inline(always)]
pub fn on_open(port: &PortKey) {
    let _ = PROBE_PORTS.insert(port, &0, 0);
}

/// A probe closed its socket on this port.
#[inline(always)]
pub fn on_close(port: &PortKey) {
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let _ = PROBE_PORTS.insert(port, &now, 0);
}

/// Whether a probe has this port, or had it just now.
#[inline(always)]
pub fn is_probe(port: &PortKey) -> bool {
    let Some(closed) = PROBE_PORTS.get_ptr(port) else { return false };
    // SAFETY: the lookup returned a valid entry; the helper has no preconditions.
    let (closed, now) = unsafe { (*closed, bpf_ktime_get_boot_ns()) };
    closed == 0 || now.wrapping_sub(closed) < CLOSE_GRACE_NS
}
