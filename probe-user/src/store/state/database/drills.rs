//! Drills with their timelines.

use rusqlite::{Connection, Transaction, params};

use crate::{fact::DrillReport, store::state::error::DatabaseError};

/// The most drills that are kept, the latest. Each takes some KiB.
const MOST: i64 = 1000;

/// Replaces what is known of a drill.
pub(super) fn write(group: &Transaction<'_>, drill: &DrillReport) -> Result<(), DatabaseError> {
    let began = drill.began.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_microsecond);
    let step = |ms: Option<f64>| ms.map(|ms| (ms * 1000.0).round() as i64);
    group.execute(
        "INSERT OR REPLACE INTO drills VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            drill.id,
            drill.service,
            drill.fault.as_str(),
            drill.outcome.as_str(),
            began.unwrap_or_default(),
            drill.incident,
            step(drill.detected_ms),
            step(drill.decided_ms),
            step(drill.acted_ms),
            step(drill.recovered_ms),
            step(drill.alerted_ms),
            serde_json::to_string(drill).map_err(std::io::Error::from)?,
        ],
    )?;
    group.execute(
        "DELETE FROM drills WHERE id NOT IN (SELECT id FROM drills ORDER BY began_us DESC LIMIT ?1)",
        [MOST],
    )?;
    Ok(())
}

/// The drills that began at `since_us` or later, the latest first: those of one service if it is given.
pub(in super::super) fn list(
    connection: &Connection,
    since_us: Option<i64>,
    service: Option<&str>,
) -> Result<Vec<DrillReport>, DatabaseError> {
    let mut query = connection.prepare(
        "SELECT story FROM drills
        WHERE (?1 IS NULL OR began_us >= ?1) AND (?2 IS NULL OR service = ?2)
        ORDER BY began_us DESC",
    )?;
    let stories = query.query_map(params![since_us, service], |row| row.get::<_, String>(0))?;
    let mut found = Vec::new();
    for story in stories {
        // One that another version wrote may not be readable.
        found.extend(serde_json::from_str(&story?).ok());
    }
    Ok(found)
}

/// Deletes the drills that began before `before_us`.
pub(super) fn prune(connection: &Connection, before_us: i64) -> Result<(), DatabaseError> {
    connection.execute("DELETE FROM drills WHERE began_us < ?1", [before_us])?;
    Ok(())
}
