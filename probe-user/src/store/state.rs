//! The state that outlives the daemon: operators' stops and pauses, in SQLite.
//!
//! A thread of its own writes in groups, so that no disk delays a decision. A disk that is full or read-only costs
//! what it cannot take, which the log says once. A damaged file is set aside, and a new one is begun.

mod database;
mod writer;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use crate::{
    bounded_thread::{self, NoAnswer},
    fact::Orders,
};
use database::FILE;
use writer::{Job, Writer};

/// The most changes that wait to be written. A command of an operator makes one for each service.
const QUEUE: usize = 4096;

/// How long the daemon's start waits for the file. A file system that does not answer costs the remembered orders.
const PATIENCE: Duration = Duration::from_secs(5);

/// The file, written by its thread.
#[derive(Debug)]
pub struct StateStore {
    /// The channel has room for all its jobs from the start: boxed, they take little of it.
    jobs: SyncSender<Box<Job>>,
    lost: AtomicU64,
    path: PathBuf,
    /// Closes once the thread has written everything.
    ended: Receiver<()>,
}

impl StateStore {
    /// Opens the file in the state directory. Returns the orders in force, by service, besides the store.
    pub fn open(directory: &Path) -> Result<(Self, BTreeMap<String, Orders>), NoAnswer> {
        let (jobs, inbox) = sync_channel(QUEUE);
        let (alive, ended) = sync_channel::<()>(0);
        let (answer, remembered) = sync_channel(1);
        let folder = directory.to_owned();
        bounded_thread::start("state", move || {
            let mut writer = Writer::new(&folder);
            // The daemon may have stopped waiting.
            let _ = answer.send(writer.remembered());
            writer.run(&inbox);
            drop(alive);
        })?;
        let remembered = remembered.recv_timeout(PATIENCE).map_err(|_| NoAnswer::Late(PATIENCE))?;
        let path = directory.join(FILE);
        Ok((Self { jobs, lost: AtomicU64::new(0), path, ended }, remembered))
    }

    /// Keeps the orders about a service, in place of earlier ones. Never waits.
    pub fn keep_orders(&self, service: &str, orders: Orders) {
        if self.jobs.try_send(Box::new(Job { service: service.to_owned(), orders })).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of changes lost since the last call.
    pub fn take_loss(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what waits, for at most `patience`.
    pub fn shutdown(self, patience: Duration) {
        let Self { jobs, ended, .. } = self;
        drop(jobs);
        let _ = ended.recv_timeout(patience);
    }
}

#[cfg(test)]
mod tests;
