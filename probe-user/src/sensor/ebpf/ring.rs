//! Reads the two ring buffers.

use std::{io, os::fd::AsFd};

use aya::maps::{MapData, RingBuf};

use super::decode::decode;
use crate::sensor::{record::Record, wake::Wake};

/// Most records of one ring in one drain, so that a flood cannot hold the daemon here.
const BATCH: usize = 4096;

pub struct Rings {
    urgent: RingBuf<MapData>,
    bulk: RingBuf<MapData>,
    /// Of the urgent ring.
    wake: Wake,
    /// The last batch was full. The kernel sends no wake-up while the reader is behind.
    behind: bool,
    undecodable: u64,
}

impl Rings {
    pub fn new(urgent: RingBuf<MapData>, bulk: RingBuf<MapData>) -> Self {
        Self { urgent, bulk, wake: Wake::default(), behind: false, undecodable: 0 }
    }

    pub async fn readable(&mut self) -> io::Result<()> {
        if self.behind {
            return Ok(());
        }
        self.wake.readable(self.urgent.as_fd()).await
    }

    pub fn drain(&mut self, out: &mut Vec<Record>) {
        let Self { urgent, bulk, wake, behind, undecodable } = self;
        *behind = !wake.empty(|| take(urgent, out, undecodable));
        take(bulk, out, undecodable);
    }

    pub fn take_undecodable(&mut self) -> u64 {
        std::mem::take(&mut self.undecodable)
    }
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
