//! Time as the kernel counts it, and its translation to wall-clock time.
//!
//! Everything inside the daemon is timed by `CLOCK_BOOTTIME`: the kernel stamps its records with it
//! (`bpf_ktime_get_boot_ns`), process start times use it, and it never steps. Only the writers of
//! events translate to wall-clock time, at the moment of writing.
//!
//! A time namespace shifts the clocks that its processes read, and the start times in `/proc`; the kernel's records are not
//! shifted (`time_namespaces(7)`). This clock is that of the initial namespace, wherever the daemon runs.

use std::{fs, sync::LazyLock, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A moment in nanoseconds since boot, suspend included (`CLOCK_BOOTTIME`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The present moment.
    pub fn now() -> Self {
        Self(boottime() as u64)
    }

    /// A moment given in nanoseconds since boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// A moment since boot as `/proc` tells it in this process's time namespace, nanoseconds.
    pub fn from_proc_nanos(nanos: u64) -> Self {
        let shifted = i128::from(nanos) - NAMESPACE.boottime;
        Self(u64::try_from(shifted.max(0)).unwrap_or(u64::MAX))
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this moment is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `later` after this one.
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(later.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// This moment by the wall clock as it stands now.
    pub fn to_wall(self) -> jiff::Timestamp {
        let behind = boottime() - i128::from(self.0);
        jiff::Timestamp::from_nanosecond(nanos(ClockId::Realtime) - behind)
            .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    /// A moment of the wall clock as it stands now; boot, if it was before that.
    pub fn from_wall(wall: jiff::Timestamp) -> Self {
        let behind = nanos(ClockId::Realtime) - wall.as_nanosecond();
        Self(u64::try_from(boottime() - behind).unwrap_or_default())
    }

    /// A moment of `CLOCK_MONOTONIC`, which systemd reports in microseconds, on this clock.
    pub fn from_monotonic_micros(micros: u64) -> Self {
        Self::from_monotonic_nanos(micros.saturating_mul(1000))
    }

    /// A moment of `CLOCK_MONOTONIC` on this clock.
    pub fn from_monotonic_nanos(monotonic: u64) -> Self {
        Self(monotonic.saturating_add(u64::try_from(suspended()).unwrap_or_default()))
    }
}

/// How far the wall clock is ahead of the time since boot, in nanoseconds.
pub fn wall_ahead_of_boot() -> i128 {
    nanos(ClockId::Realtime) - boottime()
}

/// How much `CLOCK_BOOTTIME` is ahead of `CLOCK_MONOTONIC`, in nanoseconds. The thread may lose its CPU between two
/// readings, so the closest ones of a few count: two translations of one moment differ by microseconds.
fn suspended() -> i128 {
    const READINGS: usize = 8;
    const CLOSE: i128 = 2_000;
    let mut best = (i128::MAX, 0);
    for _ in 0..READINGS {
        let before = monotonic();
        let ahead = boottime() - before;
        best = best.min((monotonic() - before, ahead));
        if best.0 < CLOSE {
            break;
        }
    }
    best.1
}

/// `CLOCK_BOOTTIME` of the initial time namespace, in nanoseconds.
fn boottime() -> i128 {
    nanos(ClockId::Boottime) - NAMESPACE.boottime
}

/// `CLOCK_MONOTONIC` of the initial time namespace, in nanoseconds.
fn monotonic() -> i128 {
    nanos(ClockId::Monotonic) - NAMESPACE.monotonic
}

/// A clock as this process has it.
fn nanos(clock: ClockId) -> i128 {
    let time = clock_gettime(clock);
    i128::from(time.tv_sec) * NANOS + i128::from(time.tv_nsec)
}

const NANOS: i128 = 1_000_000_000;

/// By how much this process's time namespace has its clocks ahead, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Offsets {
    monotonic: i128,
    boottime: i128,
}

/// A process cannot change its own: `setns` and `unshare` concern the children.
static NAMESPACE: LazyLock<Offsets> = LazyLock::new(|| {
    let namespace = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).ok();
    // The kernel tells the offsets of the namespace for children.
    if namespace("time") != namespace("time_for_children") {
        return Offsets::default();
    }
    offsets(&fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default())
});

/// Reads lines such as `boottime  86400  0`: the clock, seconds, nanoseconds. There is no such file before Linux 5.6.
fn offsets(text: &str) -> Offsets {
    let offset = |clock: &str| {
        let mut fields = text.lines().find_map(|line| line.strip_prefix(clock))?.split_ascii_whitespace();
        let mut field = || fields.next()?.parse::<i64>().ok();
        Some(i128::from(field()?) * NANOS + i128::from(field()?))
    };
    Offsets {
        monotonic: offset("monotonic").unwrap_or_default(),
        boottime: offset("boottime").unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_never_runs_backwards() {
        let (early, late) = (Timestamp::from_nanos(5), Timestamp::from_nanos(9));
        assert_eq!(late.since(early), Duration::from_nanos(4));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early.plus(Duration::MAX), Timestamp::from_nanos(u64::MAX));
    }

    #[test]
    fn the_offsets_of_a_time_namespace_are_read() {
        let text = "monotonic        3600         0\nboottime       -86400 500000000\n";
        let expected = Offsets { monotonic: 3600 * NANOS, boottime: -86400 * NANOS + 500_000_000 };
        assert_eq!(offsets(text), expected);
        for none in ["", "monotonic\nboottime 5\n", "boottime x y"] {
            assert_eq!(offsets(none), Offsets::default(), "{none:?}");
        }
    }

    #[test]
    fn the_present_maps_to_the_wall_clock() {
        let wall = Timestamp::now().to_wall();
        assert!(jiff::Timestamp::now().duration_since(wall).abs() < jiff::SignedDuration::from_secs(1));
        let again = Timestamp::from_wall(wall);
        assert!(Timestamp::now().since(again) < Duration::from_secs(1));
        assert_eq!(Timestamp::from_wall(jiff::Timestamp::UNIX_EPOCH), Timestamp::default());
    }
}
