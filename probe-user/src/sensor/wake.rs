//! A descriptor that wakes the daemon, for what is emptied by other means than reading it.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// The wake-up of one descriptor. It is registered with the runtime by the first wait, as it may be made without one.
#[derive(Debug, Default)]
pub struct Wake(Option<AsyncFd<OwnedFd>>);

impl Wake {
    /// Waits until the descriptor is readable, which has to be the same one each time; a second descriptor of it is
    /// kept. Needs a Tokio runtime with I/O enabled.
    ///
    /// Cancel safe. Readiness stays set until [`Wake::empty`] has found nothing left.
    pub async fn readable(&mut self, descriptor: impl AsFd) -> io::Result<()> {
        let wake = match self.0.take() {
            Some(wake) => wake,
            None => {
                let descriptor = descriptor.as_fd().try_clone_to_owned()?;
                // SAFETY: an `OwnedFd` is an open descriptor, always the same one, until it is dropped.
                unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?
            }
        };
        self.0.insert(wake).readable().await.map(|mut guard| guard.retain_ready())
    }

    /// Lets `take` take what there is, once, and returns what it says: whether nothing is left.
    ///
    /// Taking inside `try_io` clears the readiness seen before, never one that arrives meanwhile.
    pub fn empty(&self, mut take: impl FnMut() -> bool) -> bool {
        let mut emptied = None;
        if let Some(wake) = &self.0 {
            // It does nothing when there is no readiness to clear.
            let _ = wake.try_io(Interest::READABLE, |_| {
                let empty = take();
                emptied = Some(empty);
                if empty { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
        }
        emptied.unwrap_or_else(take)
    }
}
