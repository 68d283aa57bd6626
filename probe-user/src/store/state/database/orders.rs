//! The operators' orders in force.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, Transaction, params};

use crate::{
    clock::Timestamp,
    fact::{CommandKind, Operator, Order, Orders, User},
    store::state::error::{DatabaseError, readable},
};

/// The orders in force, by service.
pub(super) fn read(connection: &Connection) -> Result<BTreeMap<String, Orders>, DatabaseError> {
    let mut all: BTreeMap<String, Orders> = BTreeMap::new();
    let mut query = connection.prepare("SELECT * FROM orders")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let Some((service, Some(order))) = readable(order(row))? else { continue };
        let orders = all.entry(service).or_default();
        match order.kind {
            CommandKind::Stop => orders.stop = Some(order),
            CommandKind::Pause => orders.pause = Some(order),
            CommandKind::Start
            | CommandKind::Restart
            | CommandKind::Resume
            | CommandKind::Ack
            | CommandKind::Reload
            | CommandKind::Drill => {}
        }
    }
    Ok(all)
}

/// Replaces the orders about a service.
pub(super) fn write(
    group: &Transaction<'_>,
    service: &str,
    orders: Option<&Orders>,
) -> Result<(), DatabaseError> {
    group.execute("DELETE FROM orders WHERE service = ?1", [service])?;
    for order in orders.into_iter().flat_map(|orders| [&orders.stop, &orders.pause]).flatten() {
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
    Ok(())
}

/// A service and an order about it; None if it is over or of a kind that this version does not know.
fn order(row: &Row<'_>) -> rusqlite::Result<(String, Option<Order>)> {
    let at = |us: i64| jiff::Timestamp::from_microsecond(us).map(Timestamp::from_wall);
    let service = row.get("service")?;
    let kind = match row.get_ref("kind")?.as_str().unwrap_or_default() {
        "stop" => CommandKind::Stop,
        "pause" => CommandKind::Pause,
        _ => return Ok((service, None)),
    };
    let until: Option<i64> = row.get("until_us")?;
    if until.is_some_and(|until| until <= jiff::Timestamp::now().as_microsecond()) {
        return Ok((service, None));
    }
    let login: Option<u32> = row.get("login_id")?;
    let login_name = row.get("login_name")?;
    let order = Order {
        kind,
        by: Operator {
            user: User { id: row.get("user_id")?, name: row.get("user_name")? },
            login: login.map(|id| User { id, name: login_name }),
        },
        reason: row.get("reason")?,
        since: at(row.get("since_us")?).unwrap_or_default(),
        until: until.and_then(|until| at(until).ok()),
    };
    Ok((service, Some(order)))
}
