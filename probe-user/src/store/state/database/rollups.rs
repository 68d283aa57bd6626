//! Sums of what services did: minutes become hours, and hours become days.

use rusqlite::{
    Connection, OptionalExtension as _, Row, Statement, ToSql, Transaction, params, params_from_iter,
};

use crate::store::{
    report::{Recorded, Span},
    rollup::{DAY, HOUR, MINUTE, Rollup, Totals},
    state::error::DatabaseError,
};

/// How long sums stay as they are before they are added to those of the next longer span, in seconds. Days stay for `keep`.
const MINUTES_KEPT: i64 = 2 * DAY;
const HOURS_KEPT: i64 = 30 * DAY;

/// The most rows, each of some 50 bytes. Ten services take 37 000. With many more, sums become coarse earlier.
pub(in super::super) const MOST_ROWS: i64 = 250_000;

/// The most services whose sums are added up at once, and the most rows that are deleted at once, so that other writes have a
/// turn: some milliseconds.
const SERVICES: i64 = 32;
const ROWS: i64 = 1024;

const COLUMNS: &str = "healthy_us, degraded_us, down_us, stopped_us, paused_us, maintenance_us, drilled_us, unknown_us, probes, \
                       failed_probes, restarts, failed_restarts, held_restarts";

/// The sums of the same columns.
const SUMS: &str = "sum(healthy_us), sum(degraded_us), sum(down_us), sum(stopped_us), sum(paused_us), \
                    sum(maintenance_us), sum(drilled_us), sum(unknown_us), sum(probes), sum(failed_probes), sum(restarts), \
                    sum(failed_restarts), sum(held_restarts)";

/// Adds what services did to their minutes.
pub(super) fn write(
    group: &Transaction<'_>,
    rollups: impl IntoIterator<Item = Rollup>,
) -> Result<(), DatabaseError> {
    let mut sums = Sums::of(group)?;
    rollups.into_iter().try_for_each(|rollup| sums.add(MINUTE, &rollup))
}

/// The rows, to add to.
struct Sums<'g> {
    read: Statement<'g>,
    write: Statement<'g>,
}

impl<'g> Sums<'g> {
    fn of(group: &'g Transaction<'_>) -> Result<Self, DatabaseError> {
        let read =
            format!("SELECT {COLUMNS} FROM rollups WHERE span_s = ?1 AND start_s = ?2 AND service = ?3");
        let write = "INSERT OR REPLACE INTO rollups
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
        Ok(Self { read: group.prepare(&read)?, write: group.prepare(write)? })
    }

    /// Adds to what a span of a service has.
    fn add(&mut self, span: i64, more: &Rollup) -> Result<(), DatabaseError> {
        let Rollup { service, start, totals: more } = more;
        let known = self.read.query_row(params![span, start, service], |row| totals(row, 0)).optional()?;
        let mut sum = known.unwrap_or_default();
        sum.add(more);
        let Totals { times, counts } = sum.within(span);
        let key: [&dyn ToSql; 3] = [&span, start, service];
        let sums = times.iter().chain(&counts).map(|sum| sum as &dyn ToSql);
        self.write.execute(params_from_iter(key.into_iter().chain(sums)))?;
        Ok(())
    }
}

/// The sums in a row, from its column `at` on.
fn totals(row: &Row<'_>, at: usize) -> rusqlite::Result<Totals> {
    let mut totals = Totals::default();
    for (column, sum) in (at..).zip(totals.times.iter_mut().chain(&mut totals.counts)) {
        *sum = row.get(column)?;
    }
    Ok(totals)
}

/// Brings the sums to the spans of their age at `now`, in seconds since 1970, and deletes those of more than `keep` seconds
/// ago, some at a time. With more than `most` rows, sums become coarse earlier. True if there may be more to do.
pub(super) fn prune(
    connection: &mut Connection,
    now: i64,
    keep: i64,
    most: i64,
) -> Result<bool, DatabaseError> {
    let group = connection.transaction()?;
    let mut has_more = false;
    for span in [MINUTE, HOUR, DAY] {
        has_more |= delete(&group, span, now.saturating_sub(keep).saturating_sub(span))?;
    }
    has_more |= fold(&group, MINUTE, HOUR, now.saturating_sub(MINUTES_KEPT))?;
    has_more |= fold(&group, HOUR, DAY, now.saturating_sub(HOURS_KEPT))?;
    let [minutes, hours, days] = rows(&group)?;
    if minutes + hours + days > most {
        has_more |= if minutes >= hours.max(days) {
            fold(&group, MINUTE, HOUR, now)?
        } else if hours >= days {
            fold(&group, HOUR, DAY, now)?
        } else {
            delete(&group, DAY, i64::MAX)?
        };
    }
    group.commit()?;
    Ok(has_more)
}

/// The rows of minutes, hours and days.
fn rows(connection: &Connection) -> Result<[i64; 3], DatabaseError> {
    let mut query = connection.prepare("SELECT count(*) FROM rollups WHERE span_s = ?1")?;
    let mut count = |span: i64| query.query_row([span], |row| row.get::<_, i64>(0));
    Ok([count(MINUTE)?, count(HOUR)?, count(DAY)?])
}

/// Deletes some of the oldest sums that began at `last` or before. True if there may be more.
fn delete(group: &Transaction<'_>, span: i64, last: i64) -> Result<bool, DatabaseError> {
    let deleted = group.execute(
        "DELETE FROM rollups WHERE (span_s, start_s, service) IN
            (SELECT span_s, start_s, service FROM rollups WHERE span_s = ?1 AND start_s <= ?2
            ORDER BY start_s LIMIT ?3)",
        params![span, last, ROWS],
    )?;
    Ok(deleted as i64 == ROWS)
}

/// Adds the oldest sums to those of the next longer span, if that ended at `end` or before. True if there may be more.
fn fold(group: &Transaction<'_>, from: i64, to: i64, end: i64) -> Result<bool, DatabaseError> {
    let oldest: Option<i64> =
        group.query_row("SELECT min(start_s) FROM rollups WHERE span_s = ?1", [from], |row| row.get(0))?;
    let Some(start) = oldest.map(|oldest| oldest - oldest.rem_euclid(to)) else { return Ok(false) };
    if start.saturating_add(to) > end {
        return Ok(false);
    }
    let next = start.saturating_add(to);
    let mut query = group.prepare(&format!(
        "SELECT service, {SUMS} FROM rollups WHERE span_s = ?1 AND start_s >= ?2 AND start_s < ?3
        GROUP BY service LIMIT ?4"
    ))?;
    let found = query.query_map(params![from, start, next, SERVICES], |row| {
        Ok(Rollup { service: row.get(0)?, start, totals: totals(row, 1)? })
    })?;
    let found = found.collect::<rusqlite::Result<Vec<Rollup>>>()?;
    let mut delete = group.prepare(
        "DELETE FROM rollups WHERE span_s = ?1 AND start_s >= ?2 AND start_s < ?3 AND service = ?4",
    )?;
    let mut sums = Sums::of(group)?;
    for rollup in &found {
        sums.add(to, rollup)?;
        delete.execute(params![from, start, next, rollup.service])?;
    }
    Ok(true)
}

/// The end of the last sum that began at `now` or before.
pub(in super::super) fn end(connection: &Connection, now: i64) -> Result<Option<i64>, DatabaseError> {
    let mut query = connection.prepare(
        "SELECT start_s + span_s FROM rollups WHERE span_s = ?1 AND start_s <= ?2 ORDER BY start_s DESC LIMIT 1",
    )?;
    let mut latest = None;
    for span in [MINUTE, HOUR, DAY] {
        latest = latest.max(query.query_row([span, now], |row| row.get::<_, i64>(0)).optional()?);
    }
    Ok(latest)
}

/// The beginning of the longest span with sums that a moment is in, or the moment.
pub(in super::super) fn beginning(connection: &Connection, moment: i64) -> Result<i64, DatabaseError> {
    let mut query = connection.prepare(
        "SELECT start_s FROM rollups WHERE span_s = ?1 AND start_s > ?2 AND start_s <= ?3 ORDER BY start_s LIMIT 1",
    )?;
    let mut beginning = moment;
    for span in [MINUTE, HOUR, DAY] {
        let found = query.query_row([span, moment - span, moment], |row| row.get::<_, i64>(0)).optional()?;
        beginning = found.map_or(beginning, |start| beginning.min(start));
    }
    Ok(beginning)
}

/// What was recorded from one moment to another, by service; of one service if it is given. A service without records in this
/// time has sums of zero.
pub(in super::super) fn between(
    connection: &Connection,
    from: i64,
    to: i64,
    service: Option<&str>,
) -> Result<Vec<Recorded>, DatabaseError> {
    let mut query = connection.prepare(
        "SELECT service, min(start_s) FROM rollups WHERE (?1 IS NULL OR service = ?1) GROUP BY service",
    )?;
    let found = query.query_map([service], |row| {
        Ok(Recorded { service: row.get(0)?, first: row.get(1)?, totals: Totals::default() })
    })?;
    let mut all = found.collect::<rusqlite::Result<Vec<Recorded>>>()?;
    let mut query = connection.prepare(&format!(
        "SELECT service, {SUMS} FROM rollups WHERE start_s >= ?1 AND start_s < ?2 AND (?3 IS NULL OR service = ?3)
        GROUP BY service"
    ))?;
    let mut found = query.query(params![from, to, service])?;
    while let Some(row) = found.next()? {
        let name: String = row.get(0)?;
        if let Some(recorded) = all.iter_mut().find(|recorded| recorded.service == name) {
            recorded.totals = totals(row, 1)?;
        }
    }
    Ok(all)
}

/// What was recorded of a service from one moment to another, in spans of `seconds`, the earliest first. Where only longer
/// sums are kept, the span that one begins in has all of it, and is as long.
pub(in super::super) fn spans(
    connection: &Connection,
    from: i64,
    to: i64,
    service: &str,
    seconds: i64,
) -> Result<Vec<Span>, DatabaseError> {
    let mut query = connection.prepare(&format!(
        "SELECT start_s - start_s % ?4 AS at, max(max(span_s), ?4), {SUMS} FROM rollups
        WHERE start_s >= ?1 AND start_s < ?2 AND service = ?3 GROUP BY at ORDER BY at"
    ))?;
    let found = query.query_map(params![from, to, service, seconds], |row| {
        Ok(Span { start: row.get(0)?, seconds: row.get(1)?, totals: totals(row, 2)? })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

#[cfg(test)]
mod tests;
