//! The daemon's own connections: its probes. What goes wrong with them is the probes' to tell, at both ends.

use aya_ebpf::{Global, helpers::bpf_ktime_get_boot_ns, macros::map, maps::LruHashMap};
use probe_abi::PortKey;

/// Thread group id of the daemon, which probes; 0 for none.
#[unsafe(no_mangle)]
static PROBER: Global<u32> = Global::new(0);

/// How long after a probe has closed its socket the other end may still say so.
const ECHO_NS: u64 = 5_000_000_000;

/// Local ports of the probes' sockets: when they were closed, `CLOCK_BOOTTIME` nanoseconds, or 0 while they are open.
#[map]
static PROBE_PORTS: LruHashMap<PortKey, u64> = LruHashMap::with_max_entries(1024, 0);

/// Whether this is the daemon.
#[inline(always)]
pub fn by(tgid: u32) -> bool {
    let prober = PROBER.load();
    prober != 0 && tgid == prober
}

/// A probe has connected from this port.
#[inline(always)]
pub fn opened(port: &PortKey) {
    let _ = PROBE_PORTS.insert(port, &0, 0);
}

/// A probe has closed its socket on this port.
#[inline(always)]
pub fn closed(port: &PortKey) {
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let _ = PROBE_PORTS.insert(port, &now, 0);
}

/// Whether the client behind this port is, or was just now, a probe.
#[inline(always)]
pub fn is_behind(port: &PortKey) -> bool {
    let Some(closed) = PROBE_PORTS.get_ptr(port) else { return false };
    // SAFETY: the lookup returned a valid entry; the helper has no preconditions.
    let (closed, now) = unsafe { (*closed, bpf_ktime_get_boot_ns()) };
    closed == 0 || now.wrapping_sub(closed) < ECHO_NS
}
