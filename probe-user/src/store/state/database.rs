//! The file: its schema, and what to do with a damaged one.

mod drills;
mod heartbeats;
mod incidents;
mod kept;
mod orders;
mod rollups;

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::{error::DatabaseError, pending::Pending, remembered::Remembered};
use crate::store::rollup::Rollup;
pub(super) use drills::list as list_drills;
pub(super) use incidents::{MOST_BYTES, find, list, overlapping};
use rollups::MOST_ROWS;
pub(super) use rollups::{beginning, between, end, spans};

pub(super) const FILE: &str = "state.db";

/// Damaged files are kept for the operator, the latest of them.
const SET_ASIDE: &str = "state.db.corrupt-";
const MOST_SET_ASIDE: usize = 3;

/// How long a write waits for a reader of another process.
pub(super) const BUSY: Duration = Duration::from_secs(2);

/// The schema, a step each version. A step that was released never changes. `user_version` counts those done.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE orders (
        service TEXT NOT NULL,
        kind TEXT NOT NULL,
        user_id INTEGER NOT NULL,
        user_name TEXT,
        login_id INTEGER,
        login_name TEXT,
        reason TEXT,
        since_us INTEGER NOT NULL,
        until_us INTEGER,
        PRIMARY KEY (service, kind)
    ) STRICT, WITHOUT ROWID",
    // The times of an incident's steps are in microseconds after its fault. The story has everything else, as JSON. A memory
    // is what the engine knows of a service. The outbox has the alerts of each receiver.
    "
    CREATE TABLE incidents (
        id TEXT NOT NULL PRIMARY KEY,
        service TEXT NOT NULL,
        verdict TEXT,
        severity TEXT,
        since_us INTEGER NOT NULL,
        until_us INTEGER,
        detected_us INTEGER,
        decided_us INTEGER,
        acted_us INTEGER,
        listening_us INTEGER,
        healthy_us INTEGER,
        restarts INTEGER NOT NULL,
        holds INTEGER NOT NULL,
        story TEXT NOT NULL
    ) STRICT;
    CREATE INDEX incidents_since ON incidents (since_us);
    CREATE INDEX incidents_until ON incidents (until_us);
    CREATE TABLE memories (
        service TEXT NOT NULL PRIMARY KEY,
        memory TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE outbox (
        receiver TEXT NOT NULL,
        number INTEGER NOT NULL,
        alert TEXT NOT NULL,
        PRIMARY KEY (receiver, number)
    ) STRICT",
    // What a service did in a span: microseconds in each class, and counts.
    "
    CREATE TABLE rollups (
        span_s INTEGER NOT NULL,
        start_s INTEGER NOT NULL,
        service TEXT NOT NULL,
        healthy_us INTEGER NOT NULL,
        degraded_us INTEGER NOT NULL,
        down_us INTEGER NOT NULL,
        stopped_us INTEGER NOT NULL,
        paused_us INTEGER NOT NULL,
        maintenance_us INTEGER NOT NULL,
        drilled_us INTEGER NOT NULL,
        unknown_us INTEGER NOT NULL,
        probes INTEGER NOT NULL,
        failed_probes INTEGER NOT NULL,
        restarts INTEGER NOT NULL,
        failed_restarts INTEGER NOT NULL,
        held_restarts INTEGER NOT NULL,
        PRIMARY KEY (span_s, start_s, service)
    ) STRICT, WITHOUT ROWID",
    // The times of a drill's steps are in microseconds after its fault. The story has everything, as JSON.
    "
    CREATE TABLE drills (
        id TEXT NOT NULL PRIMARY KEY,
        service TEXT NOT NULL,
        fault TEXT NOT NULL,
        outcome TEXT NOT NULL,
        began_us INTEGER NOT NULL,
        incident TEXT,
        detected_us INTEGER,
        decided_us INTEGER,
        acted_us INTEGER,
        recovered_us INTEGER,
        alerted_us INTEGER,
        story TEXT NOT NULL
    ) STRICT;
    CREATE INDEX drills_began ON drills (began_us)",
    // What a later run needs to take over the services under `exec`, as JSON.
    "
    CREATE TABLE commands (
        service TEXT NOT NULL PRIMARY KEY,
        command TEXT NOT NULL
    ) STRICT, WITHOUT ROWID",
    // Since when a job is waited for, and when it reported in last.
    "
    CREATE TABLE heartbeats (
        name TEXT NOT NULL PRIMARY KEY,
        since_us INTEGER NOT NULL,
        beat_us INTEGER
    ) STRICT, WITHOUT ROWID",
];

/// The file never takes more pages, of 4 KiB each. Twice what incidents may take: a backstop.
const MOST_PAGES: i64 = 2 * MOST_BYTES / 4096;

/// The cache of pages, in KiB. Writes are small.
const CACHE: i64 = 256;

/// The log of the latest writes of the file in a folder.
pub(super) fn log_of(folder: &Path) -> PathBuf {
    folder.join(format!("{FILE}-wal"))
}

#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
}

impl From<Connection> for Database {
    fn from(connection: Connection) -> Self {
        Self { connection }
    }
}

impl Database {
    /// Opens the file, creates it if it is missing, and brings its schema up to date.
    pub(super) fn open(folder: &Path) -> Result<Self, DatabaseError> {
        let path = folder.join(FILE);
        // SQLite gives its other files the mode of this one.
        OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Without a sync for each group, which follows within a second. A crash of the daemon loses nothing.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "cache_size", -CACHE)?;
        connection.pragma_update(None, "max_page_count", MOST_PAGES)?;
        migrate(&mut connection)?;
        let database = Self { connection };
        database.begin_log()?;
        Ok(database)
    }

    /// Everything that a run of the daemon begins with.
    pub(super) fn remembered(&self) -> Result<Remembered, DatabaseError> {
        let memories = kept::memories(&self.connection)?;
        Ok(Remembered {
            orders: orders::read(&self.connection)?,
            open: incidents::open(&self.connection)?,
            memories: memories.into_values().collect(),
            alerts: kept::alerts(&self.connection)?,
            commands: kept::commands(&self.connection)?,
            heartbeats: heartbeats::read(&self.connection)?,
        })
    }

    /// Writes what a later run has to know and what is waited for, all or nothing of it.
    pub(super) fn write_urgent(&mut self, pending: &Pending) -> Result<(), DatabaseError> {
        let group = self.connection.transaction()?;
        for service in &pending.changed_orders {
            orders::write(&group, service, pending.orders.get(service))?;
        }
        for service in &pending.changed_memories {
            kept::write_memory(&group, service, pending.memories.get(service))?;
        }
        for alert in &pending.changed_alerts {
            kept::write_alert(&group, alert, pending.alerts.get(alert))?;
        }
        for service in &pending.changed_commands {
            kept::write_command(&group, service, pending.commands.get(service))?;
        }
        for name in &pending.changed_heartbeats {
            heartbeats::write(&group, name, pending.heartbeats.get(name))?;
        }
        for drill in &pending.drills {
            drills::write(&group, drill)?;
        }
        Ok(group.commit()?)
    }

    /// Writes the timelines of incidents, and the sums of minutes, all or none of them.
    pub(super) fn write_history(&mut self, pending: &Pending) -> Result<(), DatabaseError> {
        let group = self.connection.transaction()?;
        for timeline in &pending.incidents {
            incidents::write(&group, timeline)?;
        }
        let minutes = pending.rollups.iter().map(|((start, service), totals)| Rollup {
            service: service.clone(),
            start: *start,
            totals: *totals,
        });
        rollups::write(&group, minutes)?;
        Ok(group.commit()?)
    }

    /// Moves the log of the latest writes to the file.
    pub(super) fn checkpoint(&self) -> Result<(), DatabaseError> {
        self.connection.pragma_query(None, "wal_checkpoint", |_| Ok(()))?;
        self.begin_log()
    }

    /// The first write to a log waits for the disk, so that it must not be one that a restart waits for.
    fn begin_log(&self) -> Result<(), DatabaseError> {
        Ok(self.connection.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?)
    }

    /// Deletes some of the incidents that ended longer than `keep` ago, and makes the sums of older minutes coarse. True if
    /// there may be more to do.
    pub(super) fn prune(&mut self, keep: Duration) -> Result<bool, DatabaseError> {
        let now = jiff::Timestamp::now();
        let micros = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
        let seconds = i64::try_from(keep.as_secs()).unwrap_or(i64::MAX);
        let before = now.as_microsecond().saturating_sub(micros);
        drills::prune(&self.connection, before)?;
        heartbeats::prune(&self.connection, now.as_microsecond())?;
        let coarse = rollups::prune(&mut self.connection, now.as_second(), seconds, MOST_ROWS)?;
        Ok(incidents::prune(&self.connection, before)? || coarse)
    }

    /// Deletes some of the oldest incidents that are over, if everything takes more than `most_bytes`.
    pub(super) fn shrink(&mut self, most_bytes: i64) -> Result<(), DatabaseError> {
        if incidents::is_too_large(&self.connection, most_bytes)? {
            incidents::prune(&self.connection, i64::MAX)?;
        }
        Ok(())
    }
}

/// The number of steps that the schema of a file has done.
pub(super) fn version(connection: &Connection) -> Result<usize, DatabaseError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

fn migrate(connection: &mut Connection) -> Result<(), DatabaseError> {
    let done = version(connection)?;
    let Some(steps) = MIGRATIONS.get(done..) else {
        return Err(DatabaseError::Newer { found: done, known: MIGRATIONS.len() });
    };
    if steps.is_empty() {
        return Ok(());
    }
    let group = connection.transaction()?;
    for step in steps {
        group.execute_batch(step)?;
    }
    group.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    Ok(group.commit()?)
}

/// Renames a damaged file, and deletes the oldest of the renamed ones. Returns its new path.
pub(super) fn set_aside(folder: &Path) -> std::io::Result<PathBuf> {
    let aside = folder.join(format!("{SET_ASIDE}{}", jiff::Timestamp::now().as_microsecond()));
    // The log of the latest writes belongs to the file, and must not be applied to the next one.
    for log in ["-wal", "-shm"] {
        match fs::remove_file(folder.join(format!("{FILE}{log}"))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    fs::rename(folder.join(FILE), &aside)?;
    let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
    let mut kept: Vec<String> = fs::read_dir(folder)?.flatten().filter_map(name).collect();
    kept.retain(|name| name.starts_with(SET_ASIDE));
    kept.sort();
    for oldest in kept.iter().rev().skip(MOST_SET_ASIDE) {
        fs::remove_file(folder.join(oldest))?;
    }
    Ok(aside)
}
