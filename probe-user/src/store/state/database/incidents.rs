//! Incidents with their timelines.

use rusqlite::{Connection, Transaction, params};

use crate::{
    emit::word,
    fact::is_incident_meant,
    store::{
        history::{INCIDENTS, Timeline},
        report::PastIncident,
        state::error::{DatabaseError, readable},
    },
};

/// The incidents and everything else together take at most this much of the file, in bytes. An incident takes 4 to 60 KiB.
pub(in super::super) const MOST_BYTES: i64 = 64 << 20;

/// The most incidents that are deleted at once, so that other writes have a turn.
const BATCH: i64 = 64;

/// Replaces what is known of an incident.
pub(super) fn write(group: &Transaction<'_>, timeline: &Timeline) -> Result<(), DatabaseError> {
    let incident = &timeline.incident;
    let us = |text: &String| text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond);
    let since = incident.since.as_ref().and_then(us);
    let timing = incident.timing.unwrap_or_default();
    let step = |ms: Option<f64>| ms.map(|ms| (ms * 1000.0).round() as i64);
    group.execute(
        "INSERT OR REPLACE INTO incidents VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        params![
        incident.id,
        timeline.service,
        incident.verdict.map(|verdict| word(&verdict)),
        incident.severity.map(|severity| word(&severity)),
        since.unwrap_or_default(),
        timeline.until.as_ref().and_then(us),
        step(timing.detected_ms),
        step(timing.decided_ms),
        step(timing.acted_ms),
        step(timing.listening_ms),
        step(timing.healthy_ms),
        incident.attempts.unwrap_or_default(),
        timeline.holds,
        serde_json::to_string(timeline).map_err(std::io::Error::from)?,
    ],
    )?;
    Ok(())
}

/// The latest incidents, the latest fault first, at most `most` of them: those that were open at `since_us` or later, of one
/// service if it is given.
pub(in super::super) fn list(
    connection: &Connection,
    since_us: Option<i64>,
    service: Option<&str>,
    most: u32,
) -> Result<Vec<Timeline>, DatabaseError> {
    let mut query = connection.prepare(
        "SELECT story FROM incidents
        WHERE (?1 IS NULL OR until_us IS NULL OR until_us >= ?1) AND (?2 IS NULL OR service = ?2)
        ORDER BY since_us DESC LIMIT ?3",
    )?;
    let stories = query.query_map(params![since_us, service, most], |row| row.get::<_, String>(0))?;
    let mut found = Vec::new();
    for story in stories {
        // One that another version wrote may not be readable.
        found.extend(serde_json::from_str(&story?).ok());
    }
    Ok(found)
}

/// The incidents that were open at `since_us` or later, of one service if it is given, the earliest fault first.
pub(in super::super) fn overlapping(
    connection: &Connection,
    since_us: i64,
    service: Option<&str>,
) -> Result<Vec<PastIncident>, DatabaseError> {
    let mut query = connection.prepare(
        "SELECT id, service, verdict, since_us, until_us, decided_us, healthy_us,
            CASE WHEN json_valid(story) THEN json_extract(story, '$.incident.drill') END IS NOT NULL
        FROM incidents
        WHERE (until_us IS NULL OR until_us >= ?1) AND (?2 IS NULL OR service = ?2) ORDER BY since_us",
    )?;
    let found = query.query_map(params![since_us, service], |row| {
        let until: Option<i64> = row.get(4)?;
        Ok(PastIncident {
            id: row.get(0)?,
            service: row.get(1)?,
            verdict: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
            since: row.get(3)?,
            open: until.is_none(),
            detected: row.get(5)?,
            recovered: until.and(row.get(6)?),
            is_drill: row.get(7)?,
            until,
        })
    })?;
    let mut all = Vec::new();
    for incident in found {
        all.extend(readable(incident)?);
    }
    Ok(all)
}

/// The incidents that are open, the earliest fault first.
pub(super) fn open(connection: &Connection) -> Result<Vec<Timeline>, DatabaseError> {
    let mut query = connection
        .prepare("SELECT story FROM incidents WHERE until_us IS NULL ORDER BY since_us LIMIT ?1")?;
    let stories = query.query_map([INCIDENTS as i64], |row| row.get::<_, String>(0))?;
    let mut found = Vec::new();
    for story in stories {
        found.extend(serde_json::from_str(&story?).ok());
    }
    Ok(found)
}

/// The incidents that a person means by an id, or by the number at the end of it. The latest fault comes first.
pub(in super::super) fn find(connection: &Connection, which: &str) -> Result<Vec<Timeline>, DatabaseError> {
    // The numbers of other incidents may end with the same digits.
    const MOST: u32 = 1000;
    let number = which.trim_start_matches('i');
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let mut query = connection.prepare(
        "SELECT id, story FROM incidents WHERE id = ?1 OR (?2 IS NOT NULL AND id LIKE ?2)
        ORDER BY since_us DESC LIMIT ?3",
    )?;
    let pattern = is_number.then(|| format!("%-i{number}"));
    let mut rows = query.query(params![which, pattern, MOST])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if is_incident_meant(which, row.get_ref(0)?.as_str().unwrap_or_default()) {
            found.extend(serde_json::from_str(row.get_ref(1)?.as_str().unwrap_or_default()).ok());
        }
    }
    Ok(found)
}

/// Whether everything together takes more than its share of the file.
pub(super) fn is_too_large(connection: &Connection, most_bytes: i64) -> Result<bool, DatabaseError> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = number("page_count")? - number("freelist_count")?;
    Ok(pages * number("page_size")? > most_bytes)
}

/// Deletes some of the incidents that ended before `before_us`, the oldest. True if there may be more.
pub(super) fn prune(connection: &Connection, before_us: i64) -> Result<bool, DatabaseError> {
    let deleted = connection.execute(
        "DELETE FROM incidents WHERE id IN
            (SELECT id FROM incidents WHERE until_us < ?1 ORDER BY until_us LIMIT ?2)",
        params![before_us, BATCH],
    )?;
    Ok(deleted as i64 == BATCH)
}
