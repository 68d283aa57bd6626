//! The state that outlives the daemon, in SQLite: operators' stops and pauses, incidents with their timelines, what the
//! engine has to know of them in a later run, the outboxes of receivers, the commands that run, and sums of what services
//! did.
//!
//! A thread of its own writes in groups, so that no disk delays a decision. A disk that is full or read-only costs
//! what it cannot take, which the log says once. A damaged file is set aside, and a new one is begun.

mod database;
mod error;
mod kept;
mod pending;
mod queue;
mod reader;
mod remembered;
mod syncer;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
    time::Duration,
};

use super::{history::Timeline, rollup::Rollup};
use crate::{
    act::{
        alert::{Change, Keeper},
        supervisor::RunningCommand,
    },
    bounded_thread::{self, NoAnswer},
    config::StateOptions,
    emit::{Names, Origin},
    fact::{DrillReport, Memory, Orders, ServiceId},
    probe::heartbeat::{BeatKeeper, KeptBeat},
    progress::Awaited,
    time_slice,
};
use database::FILE;
use queue::{Job, Queue};
pub use reader::{Asker, MOST_LISTED, Reader, ReaderError};
pub use remembered::Remembered;
use writer::Writer;

/// How long the daemon's start waits for the file. A file system that does not answer costs the remembered orders.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long what tells others of an incident waits for the file. A disk that is busy takes some tens of milliseconds.
const TOLD: Duration = Duration::from_millis(250);

/// The file, written by its thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StateStore {
    queue: Arc<Queue>,
    path: PathBuf,
    /// Closes once the thread has written everything.
    ended: Arc<Mutex<Receiver<()>>>,
}

impl StateStore {
    /// Opens the file in the state directory. Returns what an earlier run has left besides the store.
    pub fn open(options: &StateOptions, origin: &Origin) -> Result<(Self, Remembered), NoAnswer> {
        let queue = Arc::new(Queue::default());
        let (alive, ended) = sync_channel::<()>(0);
        let (answer, remembered) = sync_channel(1);
        let (folder, keep, jobs) = (options.directory.clone(), options.keep, Arc::clone(&queue));
        let origin = origin.clone();
        bounded_thread::start("state", move || {
            // Restarts wait for it.
            time_slice::shorten();
            let (writer, remembered) = Writer::new(&folder, keep, origin);
            // The daemon may have stopped waiting.
            let _ = answer.send(remembered);
            writer.run(&jobs);
            drop(alive);
        })?;
        let remembered = remembered.recv_timeout(PATIENCE).map_err(|_| NoAnswer::Late(PATIENCE));
        let remembered = remembered.inspect_err(|_| queue.end())?;
        let path = options.directory.join(FILE);
        Ok((Self { queue, path, ended: Arc::new(Mutex::new(ended)) }, remembered))
    }

    /// Keeps the orders about a service, in place of earlier ones. Never waits.
    pub fn keep_orders(&self, service: &str, orders: Orders) {
        self.queue.push(Job::Orders { service: service.to_owned(), orders: Box::new(orders) });
        self.queue.flush();
    }

    /// Keeps an incident with its timeline, in place of what was known of it. It is written with the next flush.
    pub fn keep_incident(&self, timeline: Timeline) {
        self.queue.push(Job::Incident(Box::new(timeline)));
    }

    /// Keeps a drill, in place of what was known of it. Never waits. It is written with the next flush.
    pub fn keep_drill(&self, report: DrillReport) {
        self.queue.push(Job::Drill(Box::new(report)));
    }

    /// Adds to what services did in minutes. It is written with the next flush.
    pub fn keep_rollups(&self, rollups: Vec<Rollup>) {
        if !rollups.is_empty() {
            self.queue.push(Job::Rollups(rollups));
        }
    }

    /// Keeps what the engine has to know of a service in a later run, in place of what was kept before. It is written with the
    /// next flush.
    pub fn keep_memory(&self, service: ServiceId, memory: Box<Memory>, names: &Names) {
        self.queue.push(Job::Memory { service, memory, names: names.clone() });
    }

    /// Keeps what runs of a service under `exec`, in place of what was kept before; None if nothing runs. An end is written
    /// with the next flush, together with the incident that follows from it.
    pub fn keep_command(&self, service: &str, command: Option<Box<RunningCommand>>) {
        let runs = command.is_some();
        self.queue.push(Job::Command { service: service.to_owned(), command });
        if runs {
            self.queue.flush();
        }
    }

    /// Has what was given to the store written, so that a crash of the daemon does not lose it. That may be waited for, for at
    /// most `limit`; None if it is not worth a wait.
    pub fn flush_for(&self, limit: Duration) -> Option<Awaited> {
        self.queue.flush_for(limit)
    }

    /// The same for what tells others of it, whom a later run is not to contradict. It holds up neither the loop nor a restart,
    /// so that it waits for up to a quarter of a second, after a disk that was too late as well.
    pub fn flush_to_tell(&self) -> Option<Awaited> {
        self.queue.flush_patiently(TOLD)
    }

    /// The next write is one that a restart waits for: what is only for people is written some milliseconds after it.
    pub fn hold_restart(&self) {
        self.queue.hold_restart();
    }

    /// Has what was given to the store written. Never waits.
    pub fn flush(&self) {
        self.queue.flush();
    }

    /// The number of changes lost since the last call.
    pub fn take_loss(&self) -> u64 {
        self.queue.take_loss()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what waits, for at most `patience`. What comes later is lost.
    pub fn shutdown(&self, patience: Duration) {
        self.queue.end();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(patience);
    }
}

impl BeatKeeper for StateStore {
    fn keep_beat(&self, name: &str, beat: KeptBeat) {
        self.queue.push(Job::Beat { heartbeat: name.to_owned(), beat });
        self.queue.flush();
    }
}

impl Keeper for StateStore {
    fn keep(&self, receiver: &str, changes: Vec<Change>) -> Option<Awaited> {
        self.queue.push(Job::Alerts { receiver: receiver.to_owned(), changes });
        self.flush_to_tell()
    }
}

#[cfg(test)]
mod tests;
