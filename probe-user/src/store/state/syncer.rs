//! Has the disk take what was written, on a thread that ends with it: the next write must not wait for the disk.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    database::{Database, log_of},
    error::DatabaseError,
};
use crate::bounded_thread;

/// From this size on, in bytes, the log of the latest writes is moved to the file.
const LONG_LOG: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Syncer {
    folder: PathBuf,
    is_under_way: Arc<AtomicBool>,
}

impl Syncer {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), is_under_way: Arc::default() }
    }

    /// Begins a sync. False if the one before has not ended yet.
    pub(super) fn start(&self) -> bool {
        if self.is_under_way.swap(true, Ordering::AcqRel) {
            return false;
        }
        let (folder, is_under_way) = (self.folder.clone(), Arc::clone(&self.is_under_way));
        let begun = bounded_thread::start("sync", move || {
            report(&folder, sync(&folder));
            is_under_way.store(false, Ordering::Release);
        });
        if begun.is_err() {
            self.is_under_way.store(false, Ordering::Release);
        }
        begun.is_ok()
    }

    /// Syncs on this thread.
    pub(super) fn sync_now(&self) {
        report(&self.folder, sync(&self.folder));
    }
}

fn sync(folder: &Path) -> Result<(), DatabaseError> {
    let log = File::open(log_of(folder))?;
    log.sync_data()?;
    if log.metadata()?.len() >= LONG_LOG {
        Database::open(folder)?.checkpoint()?;
    }
    Ok(())
}

/// The next sync covers what this one left. The writer says if the file cannot be written at all.
fn report(folder: &Path, outcome: Result<(), DatabaseError>) {
    if let Err(error) = outcome {
        tracing::debug!("{}: the disk may not have the latest writes: {error}", folder.display());
    }
}
