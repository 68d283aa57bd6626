//! The users of a PostgreSQL server's connections, from `pg_stat_activity`.

use tokio_postgres::SimpleQueryRow;

use crate::{
    fact::{Holder, Share},
    probe::usage::{HOLDERS, PORTS},
};

/// Rows that are connections of clients. What a backend is may be kept from a user without rights, as is the
/// address; that its session has a database is not.
macro_rules! of_clients {
    () => {
        "FROM pg_stat_activity \
         WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'"
    };
}

/// The connections in use, and the number of connections that are not reserved.
///
/// `reserved_connections` came with version 16.
pub(super) const CONNECTIONS: &str = concat!(
    "SELECT count(*), current_setting('max_connections')::int8 \
     - current_setting('superuser_reserved_connections')::int8 \
     - coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::int8 ",
    of_clients!()
);

/// Reads the largest holders of connections.
pub(super) fn holders_query() -> String {
    holders_of(of_clients!())
}

/// Reads the sessions that fit a condition, as holders of what others wait for.
pub(super) fn sessions_query(condition: &str) -> String {
    holders_of(&format!("FROM pg_stat_activity WHERE {condition}"))
}

fn holders_of(sessions: &str) -> String {
    format!(
        "SELECT usename, application_name, host(client_addr), count(*), array_to_string((array_agg(client_port \
         ORDER BY client_port) FILTER (WHERE client_port > 0))[1:{PORTS}], ',') {sessions} \
         GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3 LIMIT {HOLDERS}"
    )
}

/// The answer to [`CONNECTIONS`].
pub(super) fn connections(rows: &[SimpleQueryRow]) -> Option<Share> {
    let row = rows.first()?;
    let number = |column: usize| row.try_get(column).ok()??.parse().ok();
    Some(Share { used: number(0)?, most: number(1)? })
}

/// A row of the answer to [`holders_query`].
pub(super) fn holder(row: &SimpleQueryRow) -> Holder {
    let text = |column: usize| row.try_get(column).ok().flatten();
    let ports = text(4).unwrap_or_default().split(',').filter_map(|port| port.parse().ok());
    Holder {
        user: text(0).map(str::to_owned),
        application: text(1).filter(|name| !name.is_empty()).map(str::to_owned),
        client: text(2).and_then(|address| address.parse().ok()),
        ports: ports.collect(),
        connections: text(3).and_then(|count| count.parse().ok()).unwrap_or_default(),
        ..Holder::default()
    }
}
