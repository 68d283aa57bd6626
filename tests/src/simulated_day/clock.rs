//! The clocks of the day.

use std::time::Duration;

use hostprobe::clock::Timestamp;

/// How long the host is up when the day begins, in nanoseconds.
pub(super) const BOOT: u64 = 1_000_000_000_000;

/// A moment of the day on the kernel's clock.
pub(super) fn moment(since_start: Duration) -> Timestamp {
    Timestamp::from_nanos(BOOT).plus(since_start)
}

/// How far the wall clock of a day is ahead of the time since boot, in nanoseconds.
pub(super) fn wall_ahead(start: jiff::Timestamp) -> i128 {
    start.as_nanosecond() - i128::from(BOOT)
}
