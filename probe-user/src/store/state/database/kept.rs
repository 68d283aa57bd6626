//! Memories of services, and the outboxes of receivers.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, params};
use serde::de::DeserializeOwned;

use crate::store::state::error::{DatabaseError, readable};

/// The memories by service. One that another version wrote may not be readable, and is left out.
pub(super) fn memories<T: DeserializeOwned>(
    connection: &Connection,
) -> Result<BTreeMap<String, T>, DatabaseError> {
    let mut query = connection.prepare("SELECT service, memory FROM memories")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    let mut all = BTreeMap::new();
    for row in rows {
        let Some((service, text)): Option<(String, String)> = readable(row)? else { continue };
        match serde_json::from_str(&text) {
            Ok(memory) => _ = all.insert(service, memory),
            Err(error) => tracing::warn!("{service}: what an earlier run knew cannot be read: {error}"),
        }
    }
    Ok(all)
}

pub(super) fn write_memory(
    group: &Transaction<'_>,
    service: &str,
    memory: Option<&String>,
) -> Result<(), DatabaseError> {
    match memory {
        Some(memory) => {
            group.execute("INSERT OR REPLACE INTO memories VALUES (?1, ?2)", params![service, memory])?
        }
        None => group.execute("DELETE FROM memories WHERE service = ?1", [service])?,
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
            .execute("INSERT OR REPLACE INTO outbox VALUES (?1, ?2, ?3)", params![receiver, number, alert])?,
        None => group
            .execute("DELETE FROM outbox WHERE receiver = ?1 AND number = ?2", params![receiver, number])?,
    };
    Ok(())
}
