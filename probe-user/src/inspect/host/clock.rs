//! The host's clock: how far off it is by its own estimate, whether a time service keeps it right, and whether it was set.
//!
//! The kernel knows what a time service tells it (`adjtimex(2)`). A host that no service has kept right, as a virtual
//! machine that follows its hypervisor, says nothing, and so do the checks.

use std::{io, time::Duration};

use super::measure::Measured;
use crate::{
    clock::{self, Timestamp},
    config::HostOptions,
    fact::HostCheck,
};

/// A time service that is restarted or loses its servers for a while leaves the clock alone no longer than this.
const UNKEPT: Duration = Duration::from_secs(600);

/// How long a step of the clock is shown.
const STEPPED: Duration = Duration::from_secs(600);

/// The clock at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    pub at: Timestamp,
    /// A time service keeps it right.
    pub is_kept: bool,
    /// A leap second is about to come, or is in progress.
    pub leaps: bool,
    /// How far off it is, as the time service estimates.
    pub error: Duration,
    /// How far the wall clock is ahead of the time since boot, in nanoseconds.
    pub ahead: i128,
}

/// Reads the clock; None if the kernel does not tell.
pub fn read() -> Option<ClockReading> {
    let (state, timex) = kernel_clock().ok()?;
    let offset = timex.offset.unsigned_abs();
    let is_nanos = timex.status & libc::STA_NANO != 0;
    let offset = if is_nanos { Duration::from_nanos(offset) } else { Duration::from_micros(offset) };
    let estimate = Duration::from_micros(u64::try_from(timex.esterror).unwrap_or_default());
    Some(ClockReading {
        at: Timestamp::now(),
        is_kept: timex.status & libc::STA_UNSYNC == 0,
        leaps: !matches!(state, libc::TIME_OK | libc::TIME_ERROR),
        error: offset.max(estimate),
        ahead: clock::wall_ahead_of_boot(),
    })
}

/// Whether the clock can be read. A sandbox may forbid the call, such as that of systemd's `ProtectClock=`.
pub fn can_be_read() -> io::Result<()> {
    kernel_clock().map(drop)
}

/// The kernel's state of the clock, and its numbers. Reading takes no right.
fn kernel_clock() -> io::Result<(i32, libc::timex)> {
    // SAFETY: `timex` is plain data, and without modes the call only fills it in.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    if state < 0 { Err(io::Error::last_os_error()) } else { Ok((state, timex)) }
}

/// What was seen of the clock before.
#[derive(Debug, Default)]
pub struct ClockPast {
    last: Option<ClockReading>,
    /// A time service has kept it right since the daemon started.
    was_kept: bool,
    unkept_since: Option<Timestamp>,
    step: Option<(Timestamp, i128)>,
}

impl ClockPast {
    pub fn measure(&mut self, now: ClockReading, options: &HostOptions) -> Vec<Measured> {
        let before = self.last.replace(now).filter(|before| before.is_kept && !before.leaps && !now.leaps);
        self.unkept_since = if now.is_kept { None } else { self.unkept_since.or(Some(now.at)) };
        self.was_kept |= now.is_kept;
        let limit = options.clock_offset.map(|limit| limit.as_secs_f64() * 1000.0);
        if let (Some(before), Some(limit)) = (before, options.clock_offset) {
            let by = now.ahead - before.ahead;
            if by.unsigned_abs() >= limit.as_nanos() {
                self.step = Some((now.at, by));
            }
        }
        self.step = self.step.filter(|(at, _)| now.at.since(*at) < STEPPED);
        let mut found = Vec::new();
        if let Some(limit) = limit {
            let error = if now.is_kept { now.error.as_secs_f64() * 1000.0 } else { 0.0 };
            let words = format!("the clock is off by {error:.0} ms, as its time service estimates");
            found.push(Measured::of_host(HostCheck::ClockOffset, error, limit, words));
            let by = self.step.map_or(0.0, |(_, by)| by as f64 / 1e6);
            let words = format!("the clock was set by {:+.3} s at once", by / 1000.0);
            found.push(Measured::of_host(HostCheck::ClockStep, by.abs(), limit, words));
        }
        if options.clock_sync {
            let lost = self.unkept_since.filter(|since| self.was_kept && now.at.since(*since) >= UNKEPT);
            let words =
                "no time service keeps the clock right any more; look for chronyd, ntpd or systemd-timesyncd";
            let value = if lost.is_some() { 1.0 } else { 0.0 };
            found.push(Measured::of_host(HostCheck::ClockSync, value, 1.0, words.to_owned()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: ClockReading = ClockReading {
        at: Timestamp::from_nanos(0),
        is_kept: true,
        leaps: false,
        error: Duration::from_millis(1),
        ahead: 0,
    };

    fn at(seconds: u64, reading: ClockReading) -> ClockReading {
        ClockReading { at: Timestamp::from_nanos(seconds * 1_000_000_000), ..reading }
    }

    /// What is bad after these readings.
    fn bad(readings: &[ClockReading]) -> Vec<HostCheck> {
        let (mut past, mut last) = (ClockPast::default(), Vec::new());
        for reading in readings {
            last = past.measure(*reading, &HostOptions::default());
        }
        last.into_iter().filter(|it| it.value >= it.limit).map(|it| it.check).collect()
    }

    #[test]
    fn a_clock_that_nothing_ever_kept_right_is_no_trouble_whatever_it_does() {
        let unkept = ClockReading { is_kept: false, error: Duration::from_secs(16), ..KEPT };
        let jumped = ClockReading { ahead: 3_600_000_000_000, ..unkept };
        assert_eq!(bad(&[unkept, at(10, jumped), at(10_000, jumped)]), []);
        let first_sync = ClockReading { ahead: 1 << 60, ..KEPT };
        assert_eq!(bad(&[unkept, at(10, first_sync)]), [], "the first synchronisation sets it");
    }

    #[test]
    fn a_kept_clock_that_is_off_or_set_or_left_alone_is() {
        let off = ClockReading { error: Duration::from_millis(700), ..KEPT };
        assert_eq!(bad(&[off]), [HostCheck::ClockOffset]);
        let set = ClockReading { ahead: -2_000_000_000, ..KEPT };
        assert_eq!(bad(&[KEPT, at(10, set)]), [HostCheck::ClockStep]);
        assert_eq!(bad(&[KEPT, at(10, set), at(609, set)]), [HostCheck::ClockStep], "for ten minutes");
        assert_eq!(bad(&[KEPT, at(10, set), at(610, set)]), []);
        let leap = ClockReading { ahead: -1_000_000_000, leaps: true, ..KEPT };
        assert_eq!(bad(&[KEPT, at(10, leap), at(20, ClockReading { leaps: false, ..leap })]), []);
        let left = ClockReading { is_kept: false, ..KEPT };
        assert_eq!(bad(&[KEPT, at(10, left), at(609, left)]), [], "a service that is restarted");
        assert_eq!(bad(&[KEPT, at(10, left), at(610, left)]), [HostCheck::ClockSync]);
        assert_eq!(bad(&[KEPT, at(10, left), at(610, left), at(620, KEPT)]), []);
    }

    #[test]
    fn the_kernel_tells() {
        let reading = read().unwrap();
        assert!(reading.ahead > 0);
    }
}
