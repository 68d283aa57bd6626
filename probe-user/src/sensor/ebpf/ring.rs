//! Reads the two ring buffers.

use std::{io, os::fd::AsFd};

use aya::maps::{MapData, RingBuf};

use super::decode::{Record, decode};
use crate::sensor::wake::Wake;

/// Most records taken from one ring in one go, so that a flood cannot keep the daemon here.
const BATCH: usize = 4096;

/// Both rings, and the wake-up of the urgent one.
pub struct Rings {
    urgent: RingBuf<MapData>,
    bulk: RingBuf<MapData>,
    // Of the urgent ring.
    wake: Wake,
    // The last batch was a full one. The kernel sends no wake-up while a reader is behind.
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
                tracing::warn!(%error, "the kernel side sent a record that makes no sense");
                *undecodable += 1;
            }
        }
    }
    false
}
