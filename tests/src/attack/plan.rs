//! What an attack does to a daemon, and how long it lasts.

use std::{
    any::Any,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;

use super::reader::BlockedReader;
use crate::daemon::Daemon;

/// Far more than anything here takes: reaching it is a failure.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// What an attack can build on before the daemon runs.
pub(super) struct Scene<'a> {
    /// A folder of its own.
    pub(super) folder: &'a Path,
    /// The port of the daemon's page.
    pub(super) page: u16,
}

pub(super) type Begin = Box<dyn FnOnce(&Daemon) -> Result<Held>>;

/// What an attack adds to the daemon, and what it begins once the daemon has found the neighbour healthy.
#[derive(Default)]
pub(super) struct Plan {
    /// Further services, alert receivers and the like.
    pub(super) config: String,
    pub(super) arguments: Vec<&'static str>,
    /// What has to last as long as the daemon.
    pub(super) held: Held,
    pub(super) begin: Option<Begin>,
    /// The reader of the event stream, where it does not read.
    pub(super) reader: Option<BlockedReader>,
}

/// Processes, connections, threads and mounts that end when they are dropped.
pub(super) type Held = Vec<Box<dyn Any>>;

impl Plan {
    pub(super) fn begin(begin: impl FnOnce(&Daemon) -> Result<Held> + 'static) -> Self {
        Self { begin: Some(Box::new(begin)), ..Self::default() }
    }
}

/// Something that is done again and again on a thread, until this is dropped.
pub(super) struct Repeated {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Repeated {
    pub(super) fn start(mut step: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let ends = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                step();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Repeated {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
