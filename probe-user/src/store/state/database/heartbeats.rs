//! The latest reports of jobs.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, params};

use crate::{probe::heartbeat::KeptBeat, store::state::error::DatabaseError};

/// A job that was silent for longer is not waited for any more: no `every` is as long. In microseconds.
const LONGEST: i64 = 800 * 24 * 3600 * 1_000_000;

/// The heartbeats by name. A file that an older version wrote, and that cannot be written now, has none.
pub(super) fn read(connection: &Connection) -> Result<BTreeMap<String, KeptBeat>, DatabaseError> {
    let exists = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'heartbeats')";
    if !connection.query_row(exists, [], |row| row.get::<_, bool>(0))? {
        return Ok(BTreeMap::new());
    }
    let mut query = connection.prepare("SELECT name, since_us, beat_us FROM heartbeats")?;
    let rows = query
        .query_map([], |row| Ok((row.get(0)?, KeptBeat { since_us: row.get(1)?, beat_us: row.get(2)? })))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn write(
    group: &Transaction<'_>,
    name: &str,
    beat: Option<&KeptBeat>,
) -> Result<(), DatabaseError> {
    if let Some(KeptBeat { since_us, beat_us }) = beat {
        group
            .prepare_cached("INSERT OR REPLACE INTO heartbeats VALUES (?1, ?2, ?3)")?
            .execute(params![name, since_us, beat_us])?;
    }
    Ok(())
}

/// Deletes those that no configuration can wait for.
pub(super) fn prune(connection: &Connection, now_us: i64) -> Result<(), DatabaseError> {
    let before = now_us.saturating_sub(LONGEST);
    connection.execute("DELETE FROM heartbeats WHERE coalesce(beat_us, since_us) < ?1", [before])?;
    Ok(())
}
