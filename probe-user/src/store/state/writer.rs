//! The thread that writes the file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Duration,
};

use super::database::{Database, DatabaseError, FILE, set_aside};
use crate::fact::Orders;

/// The most changes that are written together.
const GROUP: usize = 512;

/// The wait before a failed write is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// The orders about a service, in place of earlier ones.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) service: String,
    pub(super) orders: Orders,
}

pub(super) struct Writer {
    folder: PathBuf,
    /// None while it cannot be opened.
    database: Option<Database>,
    /// All orders in force, as the file should have them.
    orders: BTreeMap<String, Orders>,
    /// The services whose orders the file does not have yet.
    changed: BTreeSet<String>,
    /// The log says that the file cannot be written.
    has_warned: bool,
}

impl Writer {
    pub(super) fn new(folder: &Path) -> Self {
        let mut writer = Self {
            folder: folder.to_owned(),
            database: None,
            orders: BTreeMap::new(),
            changed: BTreeSet::new(),
            has_warned: false,
        };
        let read = |writer: &mut Self| writer.open().and_then(|database| database.orders());
        match writer.with_a_new_file(read) {
            Ok(orders) => writer.orders = orders,
            Err(error) => writer.warn(&error),
        }
        writer
    }

    /// The orders that an earlier run of the daemon was given.
    pub(super) fn remembered(&mut self) -> BTreeMap<String, Orders> {
        self.orders.clone()
    }

    /// Writes until the daemon ends.
    pub(super) fn run(mut self, jobs: &Receiver<Box<Job>>) {
        loop {
            let first = if self.changed.is_empty() {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                jobs.recv_timeout(RETRY)
            };
            match first {
                Ok(job) => {
                    std::iter::once(job).chain(jobs.try_iter()).take(GROUP).for_each(|job| self.take(*job))
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.write(),
            }
            self.write();
        }
    }

    fn take(&mut self, Job { service, orders }: Job) {
        self.changed.insert(service.clone());
        if orders == Orders::default() {
            self.orders.remove(&service);
        } else {
            self.orders.insert(service, orders);
        }
    }

    fn write(&mut self) {
        if self.changed.is_empty() {
            return;
        }
        let written = self.with_a_new_file(|writer| {
            let (orders, changed) = (writer.orders.clone(), writer.changed.clone());
            writer.open()?.write(&orders, &changed)
        });
        match written {
            Ok(()) => {
                self.changed.clear();
                if std::mem::take(&mut self.has_warned) {
                    tracing::info!("{}: writable again", self.path().display());
                }
            }
            Err(error) => self.warn(&error),
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
        self.changed.extend(self.orders.keys().cloned());
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
                "{}: cannot be used: {error}; operators' stops and pauses end with the daemon until it can",
                self.path().display()
            );
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        clock::Timestamp,
        fact::{CommandKind, Operator, Order, User},
    };

    fn stopped(service: &str) -> Job {
        let by = Operator { user: User { id: 0, name: None }, login: None };
        let since = Timestamp::now();
        let stop = Order { kind: CommandKind::Stop, by, reason: None, since, until: None };
        Job { service: service.to_owned(), orders: Orders { stop: Some(stop), pause: None } }
    }

    #[test]
    fn a_file_that_turns_out_to_be_damaged_loses_no_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(folder.path());
        writer.take(stopped("web"));
        writer.write();
        writer.database = None;
        fs::write(writer.path(), [0xff; 4096]).unwrap();
        writer.take(stopped("db"));
        writer.write();
        assert!(writer.changed.is_empty());
        drop(writer);
        let remembered = Writer::new(folder.path()).remembered();
        assert_eq!(remembered.keys().collect::<Vec<_>>(), ["db", "web"]);
    }
}
