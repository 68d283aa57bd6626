//! The thread that writes the file.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    database::{Database, FILE, MOST_BYTES, set_aside},
    error::DatabaseError,
    pending::Pending,
    queue::{Job, Next, Queue},
    reader,
    remembered::Remembered,
    syncer::Syncer,
};
use crate::emit::Origin;

/// The wait before a failed write is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// How long what was written may be in the memory of the kernel alone, besides the time that the disk takes: together less than a
/// second, as a rule. Services that are healthy a second after a restart write again then, and a sync would delay that.
const UNSYNCED: Duration = Duration::from_millis(500);

/// How long timelines and sums wait after a write that a restart waited for, which needs the processor.
const REST: Duration = Duration::from_millis(20);

/// How often incidents and sums that are too old are looked for, and after how many sums of minutes at the latest. Only a
/// writer that has something to write does so.
const PRUNE: Duration = Duration::from_secs(3600);
const PRUNE_ROWS: usize = 4096;

pub(super) struct Writer {
    folder: PathBuf,
    /// How long incidents are kept after their end.
    keep: Duration,
    origin: Origin,
    /// None while it cannot be opened.
    database: Option<Database>,
    pending: Pending,
    syncer: Syncer,
    /// Since when timelines and sums wait for others to use the processor.
    resting: Option<Instant>,
    /// When the first write was that the disk may not have yet.
    unsynced: Option<Instant>,
    pruned: Option<Instant>,
    /// The minutes that were written since.
    unpruned_rows: usize,
    /// The log says that the file cannot be written.
    has_warned: bool,
}

impl Writer {
    /// Opens the file. Returns what an earlier run has left besides the writer.
    pub(super) fn new(folder: &Path, keep: Duration, origin: Origin) -> (Self, Remembered) {
        let mut writer = Self {
            folder: folder.to_owned(),
            keep,
            origin,
            database: None,
            pending: Pending::default(),
            syncer: Syncer::new(folder),
            resting: None,
            unsynced: None,
            pruned: None,
            unpruned_rows: 0,
            has_warned: false,
        };
        let read = |writer: &mut Self| writer.open().and_then(|database| database.remembered());
        let mut remembered = writer.with_a_new_file(read).unwrap_or_else(|error| {
            writer.warn(&error);
            // A disk that takes nothing may still have what an earlier run has left.
            let connection = reader::connect(&writer.path()).ok().flatten();
            let read = connection.and_then(|connection| Database::from(connection).remembered().ok());
            read.unwrap_or_default()
        });
        if !remembered.commands.is_empty() && !is_private(&writer.path()) {
            // They say which processes are to be ended.
            tracing::error!(
                "{}: others may have written it; what an earlier run started is not taken over",
                writer.path().display()
            );
            remembered.commands.clear();
        }
        writer.pending = Pending::of(&remembered);
        (writer, remembered)
    }

    /// Writes until the daemon ends.
    pub(super) fn run(mut self, queue: &Queue) {
        self.prune();
        loop {
            match queue.next(self.patience()) {
                Next::Write(jobs, count, holds_restart) => {
                    self.take(jobs, queue);
                    self.write_urgent();
                    if holds_restart {
                        self.resting.get_or_insert_with(Instant::now);
                    }
                    queue.handled(count);
                    if self.resting.is_none_or(|since| since.elapsed() >= REST) {
                        self.write_history();
                        self.prune();
                    }
                }
                Next::Late => {
                    self.write();
                    self.prune();
                }
                Next::End(jobs) => {
                    self.take(jobs, queue);
                    self.write();
                    return self.syncer.sync_now();
                }
            }
            if self.unsynced.is_some_and(|since| since.elapsed() >= UNSYNCED) {
                self.sync();
            }
        }
    }

    fn take(&mut self, jobs: Vec<Job>, queue: &Queue) {
        for job in jobs {
            queue.lose(self.pending.take(job, &self.origin));
        }
    }

    /// How long it may wait for the next change; None while nothing is left to do.
    fn patience(&self) -> Option<Duration> {
        let retry = (!self.pending.is_empty()).then_some(RETRY);
        let sync = self.unsynced.map(|since| UNSYNCED.saturating_sub(since.elapsed()));
        let rest = self.resting.map(|since| REST.saturating_sub(since.elapsed()));
        retry.into_iter().chain(sync).chain(rest).min()
    }

    fn write(&mut self) {
        self.write_urgent();
        self.write_history();
    }

    /// Writes what a restart of a service waits for.
    fn write_urgent(&mut self) {
        if self.pending.is_urgent() && self.write_with(Database::write_urgent) {
            self.pending.urgent_written();
        }
    }

    fn write_history(&mut self) {
        self.resting = None;
        let rows = self.pending.rollups.len();
        if self.pending.has_history() && self.write_with(Database::write_history) {
            self.pending.history_written();
            self.unpruned_rows += rows;
        }
    }

    /// Whether that succeeded.
    fn write_with(&mut self, write: fn(&mut Database, &Pending) -> Result<(), DatabaseError>) -> bool {
        let written = self.with_a_new_file(|writer| {
            writer.open()?;
            let Self { database, pending, .. } = writer;
            database.as_mut().map_or(Ok(()), |database| write(database, pending))
        });
        match written {
            Ok(()) => {
                self.unsynced.get_or_insert_with(Instant::now);
                if std::mem::take(&mut self.has_warned) {
                    tracing::info!("{}: writable again", self.path().display());
                }
                true
            }
            Err(error) => {
                if let Some(database) = &self.database {
                    // It may make room on the disk.
                    let _ = database.checkpoint();
                }
                self.warn(&error);
                false
            }
        }
    }

    /// Has the disk take what was written. Without that, a loss of power costs it.
    fn sync(&mut self) {
        // A disk that is slow is asked again.
        self.unsynced = (!self.syncer.start()).then(Instant::now);
    }

    /// Deletes incidents that are too old or take too much room, and makes old sums coarse, some at a time.
    fn prune(&mut self) {
        let Some(database) = &mut self.database else { return };
        let mut pruned = database.shrink(MOST_BYTES);
        let is_due = self.pruned.is_none_or(|at| at.elapsed() >= PRUNE);
        if is_due || self.unpruned_rows >= PRUNE_ROWS {
            (self.pruned, self.unpruned_rows) = (Some(Instant::now()), 0);
            pruned = pruned.and_then(|()| database.prune(self.keep)).map(|has_more| {
                if has_more {
                    self.pruned = None;
                }
            });
        }
        if let Err(error) = pruned {
            self.warn(&error);
        }
    }

    /// Does something with the file; again with a new one, if the file is damaged. What the new one lacks is written
    /// later.
    fn with_a_new_file<T>(
        &mut self,
        work: impl Fn(&mut Self) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        let error = match work(self) {
            Err(error) if error.is_damage() => error,
            outcome => return outcome,
        };
        self.database = None;
        let aside = set_aside(&self.folder)?;
        tracing::error!("{}: damaged ({error}); it is now {}", self.path().display(), aside.display());
        self.pending.begin_again();
        work(self)
    }

    fn open(&mut self) -> Result<&mut Database, DatabaseError> {
        match &mut self.database {
            Some(database) => Ok(database),
            missing => Ok(missing.insert(Database::open(&self.folder)?)),
        }
    }

    fn warn(&mut self, error: &DatabaseError) {
        if !std::mem::replace(&mut self.has_warned, true) {
            tracing::error!(
                "{}: cannot be written: {error}; until it can, a restart of the daemon forgets what came since: operators' \
                 stops and pauses, incidents, alerts and spent budgets",
                self.path().display()
            );
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }
}

/// Whether only the daemon's user and root can have written a file.
fn is_private(path: &Path) -> bool {
    let is_ours = |uid: u32| uid == 0 || uid == rustix::process::geteuid().as_raw();
    fs::symlink_metadata(path)
        .is_ok_and(|file| is_ours(file.uid()) && file.mode() & 0o022 == 0 && file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        emit::tests::samples::origin,
        fact::{CommandKind, Operator, Order, Orders, User},
    };

    const KEEP: Duration = Duration::from_secs(3600);

    fn stopped(service: &str) -> Job {
        let by = Operator { user: User { id: 0, name: None }, login: None };
        let since = Timestamp::now();
        let stop = Order { kind: CommandKind::Stop, by, reason: None, since, until: None };
        Job::Orders {
            service: service.to_owned(),
            orders: Box::new(Orders { stop: Some(stop), pause: None }),
        }
    }

    #[test]
    fn a_file_that_turns_out_to_be_damaged_loses_no_order() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, _) = Writer::new(folder.path(), KEEP, origin());
        writer.pending.take(stopped("web"), &origin());
        writer.write();
        writer.database = None;
        fs::write(writer.path(), [0xff; 4096]).unwrap();
        writer.pending.take(stopped("db"), &origin());
        writer.write();
        assert!(writer.pending.is_empty());
        drop(writer);
        let (_, remembered) = Writer::new(folder.path(), KEEP, origin());
        assert_eq!(remembered.orders.keys().collect::<Vec<_>>(), ["db", "web"]);
    }

    #[test]
    fn an_idle_writer_waits_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, _) = Writer::new(folder.path(), KEEP, origin());
        assert_eq!(writer.patience(), None);
        writer.pending.take(stopped("web"), &origin());
        writer.write();
        assert!(writer.patience().unwrap() <= UNSYNCED);
        writer.sync();
        assert_eq!(writer.patience(), None);
    }
}
