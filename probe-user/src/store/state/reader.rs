//! Reads the file beside its writer, or when no daemon runs. It changes and creates nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::{
    database::{
        self, BUSY, FILE, MIGRATIONS, beginning, between, end, find, list, list_drills, overlapping, spans,
    },
    error::DatabaseError,
};
use crate::{
    fact::DrillReport,
    store::{
        history::{Explanation, Listed, NotOne, Timeline},
        report::{Period, Report, Uptime, span_of},
        rollup::MINUTE,
    },
};

/// The most incidents that one answer lists.
pub const MOST_LISTED: u32 = 1000;

/// The file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    #[error("{}: no hostprobe has kept its state there; name its configuration with --config", .0.display())]
    Missing(PathBuf),
    #[error("{}: cannot be read: {why}", path.display())]
    Unreadable { path: PathBuf, why: String },
}

/// The incidents in the file.
#[derive(Debug)]
pub struct Reader {
    /// None if the file is of before incidents were kept.
    connection: Option<Connection>,
    path: PathBuf,
}

/// From this version on, the file has incidents, or sums of what services did, or drills.
const WITH_INCIDENTS: usize = 2;
const WITH_ROLLUPS: usize = 3;
const WITH_DRILLS: usize = 4;

/// Who asks for a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The daemon that keeps the file. What it owes of the minute under way is left out.
    Daemon,
    /// A command while no daemon runs.
    Command,
}

/// A daemon that runs has written the last sums less than so many seconds ago.
const FRESH: i64 = 2 * MINUTE;

impl Reader {
    /// Opens the file in a state directory.
    pub fn open(directory: &Path) -> Result<Self, ReaderError> {
        let path = directory.join(FILE);
        if !path.exists() {
            return Err(ReaderError::Missing(path));
        }
        match connect(&path) {
            Ok(connection) => Ok(Self { connection, path }),
            Err(error) => Err(ReaderError::Unreadable { path, why: error.to_string() }),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The latest incidents, the open ones first, then the latest first, at most [`MOST_LISTED`]: those that were open less
    /// than `within` ago, and of one service, where these are given.
    pub fn incidents(
        &self,
        within: Option<Duration>,
        service: Option<&str>,
    ) -> Result<Vec<Listed>, ReaderError> {
        let since = within.map(ago_us);
        let Some(connection) = &self.connection else { return Ok(Vec::new()) };
        let found = list(connection, since, service, MOST_LISTED);
        let found = found.map_err(|error| self.unreadable(&error))?;
        let mut all: Vec<Listed> = found.iter().map(Timeline::listed).collect();
        all.sort_by_key(|incident| !incident.open);
        Ok(all)
    }

    /// The timeline of an incident by its id, or by the number at the end of it.
    pub fn explain(&self, which: &str) -> Result<Result<Explanation, NotOne>, ReaderError> {
        let Some(connection) = &self.connection else { return Ok(Err(NotOne::None)) };
        let found = find(connection, which).map_err(|error| self.unreadable(&error))?;
        Ok(Timeline::only(found.iter()))
    }

    /// The report of the last `within`, of one service if it is given. It ends with the last record, if that is of the last
    /// minutes, else now.
    pub fn report(
        &self,
        within: Duration,
        service: Option<&str>,
        asker: Asker,
    ) -> Result<Report, ReaderError> {
        self.report_at(jiff::Timestamp::now().as_second(), within, service, asker)
    }

    /// [`Self::report`] in this second since 1970.
    pub(super) fn report_at(
        &self,
        now: i64,
        within: Duration,
        service: Option<&str>,
        asker: Asker,
    ) -> Result<Report, ReaderError> {
        let period = Period { from: now, to: now };
        let Some(connection) = &self.connection else { return Ok(Report::of(period, &[], &[])) };
        let report = report(connection, now, within, service, asker);
        report.map_err(|error| self.unreadable(&error))
    }

    /// How available a service was in the last `within`, in whole hours or days of UTC.
    pub fn uptime(&self, within: Duration, service: &str) -> Result<Uptime, ReaderError> {
        self.uptime_at(jiff::Timestamp::now().as_second(), within, service)
    }

    /// [`Self::uptime`] in this second since 1970.
    pub(super) fn uptime_at(&self, now: i64, within: Duration, service: &str) -> Result<Uptime, ReaderError> {
        let to = end_of_second(now);
        let seconds = i64::try_from(within.as_secs()).unwrap_or(i64::MAX);
        let asked = Period { from: to.saturating_sub(seconds).max(0), to };
        let span = span_of(asked);
        // So that the latest part of the period is one too, its first one is whole.
        let period = Period { from: asked.from - asked.from.rem_euclid(span), to };
        let none = || Ok(Uptime::of(service, period, span, &[]));
        let Some(connection) = &self.connection else { return none() };
        let found = database::version(connection).and_then(|version| {
            if version < WITH_ROLLUPS {
                return Ok(Vec::new());
            }
            spans(connection, period.from, to, service, span)
        });
        let found = found.map_err(|error| self.unreadable(&error))?;
        Ok(Uptime::of(service, period, span, &found))
    }

    /// The drills that began less than `within` ago, the latest first, of one service where it is given.
    pub fn drills(
        &self,
        within: Option<Duration>,
        service: Option<&str>,
    ) -> Result<Vec<DrillReport>, ReaderError> {
        let Some(connection) = &self.connection else { return Ok(Vec::new()) };
        drills(connection, within.map(ago_us), service).map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &DatabaseError) -> ReaderError {
        ReaderError::Unreadable { path: self.path.clone(), why: error.to_string() }
    }
}

fn report(
    connection: &Connection,
    now: i64,
    within: Duration,
    service: Option<&str>,
    asker: Asker,
) -> Result<Report, DatabaseError> {
    let has_rollups = database::version(connection)? >= WITH_ROLLUPS;
    let latest = if asker == Asker::Daemon { now - now.rem_euclid(MINUTE) } else { end_of_second(now) };
    let recorded = if has_rollups { end(connection, now)? } else { None };
    let to = recorded.filter(|end| now - end <= FRESH).map_or(latest, |end| end.min(latest));
    let seconds = i64::try_from(within.as_secs()).unwrap_or(i64::MAX);
    let from = to.saturating_sub(seconds).max(0);
    let from = from - from.rem_euclid(MINUTE);
    let from = if has_rollups { beginning(connection, from)? } else { from };
    let recorded = if has_rollups { between(connection, from, to, service)? } else { Vec::new() };
    let from_us = from.saturating_mul(1_000_000);
    let incidents = overlapping(connection, from_us, service)?;
    let drills = drills(connection, Some(from_us), service)?;
    Ok(Report::of(Period { from, to }, &recorded, &incidents).with_drills(drills))
}

/// What began in the second under way is a part of the period that ends with it.
fn end_of_second(now: i64) -> i64 {
    now.saturating_add(1)
}

fn drills(
    connection: &Connection,
    since_us: Option<i64>,
    service: Option<&str>,
) -> Result<Vec<DrillReport>, DatabaseError> {
    if database::version(connection)? < WITH_DRILLS {
        return Ok(Vec::new());
    }
    list_drills(connection, since_us, service)
}

/// So long ago, in microseconds since 1970.
fn ago_us(within: Duration) -> i64 {
    let us = i64::try_from(within.as_micros()).unwrap_or(i64::MAX);
    jiff::Timestamp::now().as_microsecond().saturating_sub(us)
}

/// Whether the log of the latest writes is there tells who else may have the file: a daemon that runs or was killed leaves
/// one, and one that ended removes it.
pub(super) fn connect(path: &Path) -> Result<Option<Connection>, DatabaseError> {
    let beside = |suffix: &str| {
        let mut beside = path.as_os_str().to_owned();
        beside.push(suffix);
        PathBuf::from(beside)
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // What is empty has nothing to read.
    let has_log = fs::metadata(beside("-wal")).is_ok_and(|log| log.len() > 0);
    let connection = if has_log && beside("-shm").exists() {
        Connection::open_with_flags(path, flags)?
    } else if has_log {
        // The index of the log would be made again, as a file. In this mode it is in memory. There is no other process to
        // agree with.
        let connection = Connection::open_with_flags_and_vfs(path, flags, c"unix-none")?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection
    } else {
        let uri = format!("file:{}?immutable=1", escaped(path));
        Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?
    };
    connection.busy_timeout(BUSY)?;
    let version = database::version(&connection)?;
    if version > MIGRATIONS.len() {
        return Err(DatabaseError::Newer { found: version, known: MIGRATIONS.len() });
    }
    Ok((version >= WITH_INCIDENTS).then_some(connection))
}

/// A path in a URI.
fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                text.push(char::from(*byte))
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}
