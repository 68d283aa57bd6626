//! The file: its schema, and what to do with a damaged one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, Row, params};

use crate::{
    clock::Timestamp,
    fact::{CommandKind, Operator, Order, Orders, User},
};

pub(super) const FILE: &str = "state.db";

/// Damaged files are kept for the operator, the latest of them.
const SET_ASIDE: &str = "state.db.corrupt-";
const MOST_SET_ASIDE: usize = 3;

/// How long a write waits for a reader of another process.
const BUSY: Duration = Duration::from_secs(2);

/// The schema, a step each version. A step that was released never changes. `user_version` counts those done.
pub(super) const MIGRATIONS: &[&str] = &["
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
    ) STRICT, WITHOUT ROWID"];

#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseError {
    #[error("{0}")]
    Sql(#[from] rusqlite::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("a newer hostprobe made it (version {found}, this one knows {known}); it stays as it is")]
    Newer { found: i64, known: usize },
}

impl DatabaseError {
    pub(super) fn is_damage(&self) -> bool {
        let code = if let Self::Sql(error) = self { error.sqlite_error_code() } else { None };
        matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }
}

#[derive(Debug)]
pub(super) struct Database(Connection);

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
        // Without a sync for each group: a crash of the daemon loses nothing, a loss of power the last groups.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        migrate(&mut connection)?;
        Ok(Self(connection))
    }

    /// The orders in force, by service.
    pub(super) fn orders(&self) -> Result<BTreeMap<String, Orders>, DatabaseError> {
        let mut all: BTreeMap<String, Orders> = BTreeMap::new();
        let mut query = self.0.prepare("SELECT * FROM orders")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let Some(order) = order(row)? else { continue };
            let orders = all.entry(row.get("service")?).or_default();
            match order.kind {
                CommandKind::Stop => orders.stop = Some(order),
                CommandKind::Pause => orders.pause = Some(order),
                CommandKind::Start
                | CommandKind::Restart
                | CommandKind::Resume
                | CommandKind::Ack
                | CommandKind::Reload => {}
            }
        }
        Ok(all)
    }

    /// Replaces the orders about some services, all or none of them.
    pub(super) fn write(
        &mut self,
        all: &BTreeMap<String, Orders>,
        changed: &BTreeSet<String>,
    ) -> Result<(), DatabaseError> {
        let group = self.0.transaction()?;
        for service in changed {
            group.execute("DELETE FROM orders WHERE service = ?1", [service])?;
            let orders = all.get(service).into_iter().flat_map(|orders| [&orders.stop, &orders.pause]);
            for order in orders.flatten() {
                let us = |at: Timestamp| at.to_wall().as_microsecond();
                let login = order.by.login.as_ref();
                group.execute(
                    "INSERT INTO orders VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    params![
                        service,
                        order.kind.as_str(),
                        order.by.user.id,
                        order.by.user.name,
                        login.map(|login| login.id),
                        login.and_then(|login| login.name.as_ref()),
                        order.reason,
                        us(order.since),
                        order.until.map(us),
                    ],
                )?;
            }
        }
        Ok(group.commit()?)
    }
}

/// An order; None if it is over or of a kind that this version does not know.
fn order(row: &Row<'_>) -> Result<Option<Order>, DatabaseError> {
    let at = |us: i64| jiff::Timestamp::from_microsecond(us).map(Timestamp::from_wall);
    let kind = match row.get_ref("kind")?.as_str().unwrap_or_default() {
        "stop" => CommandKind::Stop,
        "pause" => CommandKind::Pause,
        _ => return Ok(None),
    };
    let until: Option<i64> = row.get("until_us")?;
    if until.is_some_and(|until| until <= jiff::Timestamp::now().as_microsecond()) {
        return Ok(None);
    }
    let login: Option<u32> = row.get("login_id")?;
    let login_name = row.get("login_name")?;
    Ok(Some(Order {
        kind,
        by: Operator {
            user: User { id: row.get("user_id")?, name: row.get("user_name")? },
            login: login.map(|id| User { id, name: login_name }),
        },
        reason: row.get("reason")?,
        since: at(row.get("since_us")?).unwrap_or_default(),
        until: until.and_then(|until| at(until).ok()),
    }))
}

fn migrate(connection: &mut Connection) -> Result<(), DatabaseError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    let Some(steps) = MIGRATIONS.get(done..) else {
        return Err(DatabaseError::Newer { found: version, known: MIGRATIONS.len() });
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
