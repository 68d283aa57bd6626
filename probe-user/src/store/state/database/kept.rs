//! Memories of services, and the outboxes of receivers.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, params};
use serde::de::DeserializeOwned;

use crate::store::state::error::{DatabaseError, readable};

/// The memories by service. One that another version wrote may not be readable, and is left out.
pub(super) fn memories<T: DeserializeOwned>(
    connection: &Connection,
) -> Result<BTreeMap<String, T>, DatabaseError> {
    by_service(connection, "SELECT service, memory FROM memories", "what an earlier run knew cannot be read")
}

/// The commands by service. One that is not readable is left out: its process is ended before the service starts.
pub(super) fn commands<T: DeserializeOwned>(
    connection: &Connection,
) -> Result<BTreeMap<String, T>, DatabaseError> {
    let query = "SELECT service, command FROM commands";
    by_service(connection, query, "what an earlier run started cannot be read, and is not taken over")
}

fn by_service<T: DeserializeOwned>(
    connection: &Connection,
    query: &str,
    unreadable: &str,
) -> Result<BTreeMap<String, T>, DatabaseError> {
    let mut query = connection.prepare(query)?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    let mut all = BTreeMap::new();
    for row in rows {
        let Some((service, text)): Option<(String, String)> = readable(row)? else { continue };
        match serde_json::from_str(&text) {
            Ok(found) => _ = all.insert(service, found),
            Err(error) => tracing::warn!("{service}: {unreadable}: {error}"),
        }
    }
    Ok(all)
}

pub(super) fn write_memory(
    group: &Transaction<'_>,
    service: &str,
    memory: Option<&String>,
) -> Result<(), DatabaseError> {
    let put = "INSERT OR REPLACE INTO memories VALUES (?1, ?2)";
    write_by_service(group, [put, "DELETE FROM memories WHERE service = ?1"], service, memory)
}

pub(super) fn write_command(
    group: &Transaction<'_>,
    service: &str,
    command: Option<&String>,
) -> Result<(), DatabaseError> {
    let put = "INSERT OR REPLACE INTO commands VALUES (?1, ?2)";
    write_by_service(group, [put, "DELETE FROM commands WHERE service = ?1"], service, command)
}

fn write_by_service(
    group: &Transaction<'_>,
    [put, delete]: [&str; 2],
    service: &str,
    text: Option<&String>,
) -> Result<(), DatabaseError> {
    match text {
        Some(text) => group.prepare_cached(put)?.execute(params![service, text])?,
        None => group.prepare_cached(delete)?.execute([service])?,
    };
    Ok(())
}

/// The alerts by receiver and number.
pub(super) fn alerts<T: DeserializeOwned>(
    connection: &Connection,
) -> Result<BTreeMap<(String, u64), T>, DatabaseError> {
    let mut query = connection.prepare("SELECT receiver, number, alert FROM outbox")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?)))?;
    let mut all = BTreeMap::new();
    for row in rows {
        let Some((receiver, number, text)): Option<(String, i64, String)> = readable(row)? else { continue };
        match serde_json::from_str(&text) {
            Ok(alert) => _ = all.insert((receiver, u64::try_from(number).unwrap_or_default()), alert),
            Err(error) => tracing::warn!("an alert of an earlier run cannot be read, and is lost: {error}"),
        }
    }
    Ok(all)
}

pub(super) fn write_alert(
    group: &Transaction<'_>,
    (receiver, number): &(String, u64),
    alert: Option<&String>,
) -> Result<(), DatabaseError> {
    let number = i64::try_from(*number).unwrap_or(i64::MAX);
    match alert {
        Some(alert) => group
            .prepare_cached("INSERT OR REPLACE INTO outbox VALUES (?1, ?2, ?3)")?
            .execute(params![receiver, number, alert])?,
        None => group
            .prepare_cached("DELETE FROM outbox WHERE receiver = ?1 AND number = ?2")?
            .execute(params![receiver, number])?,
    };
    Ok(())
}
