//! Reads the two ring buffers.

use std::{io, os::fd::AsFd, time::Duration};

use aya::maps::{MapData, RingBuf};
use tokio::time::{Instant, timeout_at};

use super::decode::decode;
use crate::sensor::{record::Record, wake::Wake};

/// Most records of one ring in one drain, so that a flood cannot hold the daemon here.
const BATCH: usize = 4096;

/// The bulk ring wakes no reader. While its records come fast, it is read whenever about so many are there: a death has to
/// wait for all that came before it.
const BULK_MAX: u32 = 16;

/// The shortest time between two such drains.
const SHORTEST_PACE: Duration = Duration::from_millis(10);

/// If so many records take longer than this to come, the drain of every second is enough.
const LONGEST_PACE: Duration = Duration::from_millis(250);

pub struct Rings {
    urgent: RingBuf<MapData>,
    bulk: RingBuf<MapData>,
    /// Of the urgent ring.
    wake: Wake,
    /// The last batch was full. The kernel sends no wake-up while the reader is behind.
    behind: bool,
    undecodable: u64,
    /// Records of the bulk ring, since when.
    counted: (u32, Instant),
    /// How soon after a drain the bulk ring is to be drained again; None if that does not matter.
    pace: Option<Duration>,
    bulk_due: Option<Instant>,
}

impl Rings {
    pub fn new(urgent: RingBuf<MapData>, bulk: RingBuf<MapData>) -> Self {
        Self {
            urgent,
            bulk,
            wake: Wake::default(),
            behind: false,
            undecodable: 0,
            counted: (0, Instant::now()),
            pace: None,
            bulk_due: None,
        }
    }

    pub async fn readable(&mut self) -> io::Result<()> {
        if self.behind {
            return Ok(());
        }
        let urgent = self.wake.readable(self.urgent.as_fd());
        match self.bulk_due {
            Some(due) => timeout_at(due, urgent).await.unwrap_or(Ok(())),
            None => urgent.await,
        }
    }

    pub fn drain(&mut self, out: &mut Vec<Record>) {
        let Self { urgent, bulk, wake, behind, undecodable, .. } = self;
        *behind = !wake.empty(|| take(urgent, out, undecodable));
        let urgent_end = out.len();
        take(bulk, out, undecodable);
        let taken = u32::try_from(out.len() - urgent_end).unwrap_or(u32::MAX);
        self.set_pace(taken, Instant::now());
    }

    /// Decides when the bulk ring is drained next, of which so many records were taken now.
    fn set_pace(&mut self, taken: u32, now: Instant) {
        let (before, since) = self.counted;
        let (count, passed) = (before.saturating_add(taken), now - since);
        if passed < SHORTEST_PACE {
            self.counted.0 = count;
        } else {
            self.counted = (0, now);
            self.pace = pace(count, passed);
        }
        self.bulk_due = self.pace.map(|pace| now + pace);
    }

    pub fn take_undecodable(&mut self) -> u64 {
        std::mem::take(&mut self.undecodable)
    }
}

/// How long it takes until so many records are there that the next drain is due; None if that takes long.
fn pace(count: u32, passed: Duration) -> Option<Duration> {
    let pace = passed.saturating_mul(BULK_MAX).checked_div(count)?;
    (pace < LONGEST_PACE).then_some(pace.max(SHORTEST_PACE))
}

/// Moves records out of a ring; true if it is empty now.
fn take(ring: &mut RingBuf<MapData>, out: &mut Vec<Record>, undecodable: &mut u64) -> bool {
    for _ in 0..BATCH {
        let Some(item) = ring.next() else { return true };
        match decode(&item) {
            Ok(record) => out.push(record),
            Err(error) => {
                tracing::warn!(%error, "cannot decode a record of the eBPF programs; it is counted as lost");
                *undecodable += 1;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_bulk_ring_is_drained_once_some_records_are_there_and_a_quiet_one_by_the_second() {
        let of = |count, passed| pace(count, Duration::from_millis(passed)).map(|pace| pace.as_millis());
        assert_eq!((of(0, 1000), of(50, 1000), of(64, 1000)), (None, None, None));
        assert_eq!((of(65, 1000), of(800, 1000), of(13, 10)), (Some(246), Some(20), Some(12)));
        assert_eq!((of(4096, 10), of(u32::MAX, 86_400_000)), (Some(10), Some(10)));
    }
}
