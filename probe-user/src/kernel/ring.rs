//! Reads the two ring buffers.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use aya::maps::{MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};

use super::decode::{Record, decode};

/// Most records taken from one ring in one go, so that a flood cannot keep the daemon here.
const BATCH: usize = 4096;

/// Both rings, and the wake-up of the urgent one.
pub struct Rings {
    urgent: RingBuf<MapData>,
    bulk: RingBuf<MapData>,
    // A second descriptor of the urgent ring. Registered with the runtime by the first wait, as loading may happen
    // without one.
    wake: Option<AsyncFd<OwnedFd>>,
    // The last batch was a full one. The kernel sends no wake-up while a reader is behind.
    behind: bool,
    undecodable: u64,
}

impl Rings {
    pub fn new(urgent: RingBuf<MapData>, bulk: RingBuf<MapData>) -> Self {
        Self { urgent, bulk, wake: None, behind: false, undecodable: 0 }
    }

    pub async fn readable(&mut self) -> io::Result<()> {
        if self.behind {
            return Ok(());
        }
        let wake = match self.wake.take() {
            Some(wake) => wake,
            None => {
                let descriptor = self.urgent.as_fd().try_clone_to_owned()?;
                // SAFETY: an `OwnedFd` is an open descriptor, always the same one, until it is dropped.
                unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?
            }
        };
        // Readiness stays set until a drain has found the ring empty.
        self.wake.insert(wake).readable().await.map(|mut guard| guard.retain_ready())
    }

    pub fn drain(&mut self, out: &mut Vec<Record>) {
        let Self { urgent, bulk, wake, behind, undecodable } = self;
        let mut emptied = None;
        if let Some(wake) = wake {
            // Emptying the ring inside `try_io` clears the readiness seen before, never one that arrives meanwhile.
            // It does nothing when there is no readiness to clear.
            let _ = wake.try_io(Interest::READABLE, |_| {
                let empty = take(urgent, out, undecodable);
                emptied = Some(empty);
                if empty { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
        }
        *behind = !emptied.unwrap_or_else(|| take(urgent, out, undecodable));
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
