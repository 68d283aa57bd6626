//! A session with a MySQL or MariaDB server, which says goodbye when it is dropped.

use std::{io, time::Duration};

use super::{
    encryption::Encryption,
    failure::Error,
    login::{Greeting, Line, log_in_after},
    usage,
    wire::{Fields, Wire},
};
use crate::{
    config::MysqlAccount,
    fact::{Holder, ServerUsage, Share},
    probe::bounded::Bounded,
};

/// The timeout of a goodbye, which a server that hangs does not read.
const GOODBYE: Duration = Duration::from_secs(1);

pub(super) const LOGIN: &str = "the server to let us in";

const COM_QUERY: u8 = 3;

/// No query of a probe has more columns: the state of a replica has some 60.
const COLUMNS_MAX: u64 = 128;

/// Of a column's definition, the fields before its name: catalog, database, two names of the table.
const BEFORE_NAME: usize = 4;

type Row = Vec<Option<String>>;

/// The answer to a query.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Row>,
}

/// A row with the names of its columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableRow<'t> {
    columns: &'t [String],
    row: &'t Row,
}

impl Table {
    pub(super) fn rows(&self) -> impl Iterator<Item = TableRow<'_>> {
        self.rows.iter().map(|row| TableRow { columns: &self.columns, row })
    }
}

impl<'t> TableRow<'t> {
    pub(super) fn first(self) -> Option<&'t str> {
        self.row.first()?.as_deref()
    }

    /// The field in the column that has one of these names.
    pub(super) fn text(self, names: &[&str]) -> Option<&'t str> {
        let column = self.columns.iter().position(|column| names.contains(&column.as_str()))?;
        self.row.get(column)?.as_deref()
    }

    pub(super) fn number(self, names: &[&str]) -> Option<u64> {
        self.text(names)?.parse().ok()
    }
}

/// A session that is logged in.
#[derive(Debug)]
pub(super) struct Session {
    /// None where a query was broken off: its answer may still come.
    wire: Option<Wire>,
}

impl Session {
    /// Logs in over a stream that is connected.
    pub async fn open(
        stream: Bounded,
        account: &MysqlAccount,
        encryption: &Encryption<'_>,
        over_tcp: bool,
    ) -> Result<Self, Error> {
        let mut wire = Wire::new(stream);
        let greeting = Greeting::read(&mut wire).await?;
        let (mut wire, is_encrypted) = encryption.begin(&greeting, wire).await?;
        encryption.waiting.set(LOGIN);
        let line = Line { is_open: over_tcp && !is_encrypted, is_encrypted };
        log_in_after(&greeting, &mut wire, account, line).await?;
        Ok(Self { wire: Some(wire) })
    }

    /// Runs a query that needs no table.
    pub async fn ping(&mut self) -> Result<(), Error> {
        self.query("SELECT 1").await.map(drop)
    }

    /// The number of connections in use and the maximum; None if the server keeps the numbers to itself.
    pub async fn connections(&mut self) -> Result<Option<Share>, Error> {
        let most = number(&self.query("SELECT @@global.max_connections").await?, 0);
        let used = number(&self.query("SHOW GLOBAL STATUS LIKE 'Threads_connected'").await?, 1);
        Ok(most.zip(used).map(|(most, used)| Share { used, most }))
    }

    /// The holders of most connections, as far as this session's user may know.
    pub async fn holders(&mut self) -> Result<Vec<Holder>, Error> {
        let clients = self.query(usage::CLIENTS).await?.into_iter().map(|row| {
            let mut columns = row.into_iter();
            (columns.next().flatten(), columns.next().flatten())
        });
        Ok(usage::holders(clients.collect()))
    }

    /// All that the server reports of its connections; None if it does not answer any more.
    pub async fn usage(&mut self) -> Option<ServerUsage> {
        let connections = self.connections().await.ok()?;
        let holders = self.holders().await.unwrap_or_default();
        Some(ServerUsage { connections, holders, ..ServerUsage::default() })
    }

    async fn query(&mut self, sql: &str) -> Result<Vec<Row>, Error> {
        self.table(sql).await.map(|table| table.rows)
    }

    /// The answer to a query, with the names of its columns.
    pub async fn table(&mut self, sql: &str) -> Result<Table, Error> {
        // If this future is dropped, so is its connection: the next query would read this one's answer from it.
        let mut wire = self.wire.take().ok_or(io::Error::from(io::ErrorKind::NotConnected))?;
        let answer = query(&mut wire, sql).await;
        if matches!(answer, Ok(_) | Err(Error::Refused { .. })) {
            self.wire = Some(wire);
        }
        answer
    }
}

async fn query(wire: &mut Wire, sql: &str) -> Result<Table, Error> {
    wire.command(COM_QUERY, sql.as_bytes()).await?;
    let first = wire.read().await?;
    if first.first() == Some(&0) {
        return Ok(Table { columns: Vec::new(), rows: Vec::new() });
    }
    let columns = Fields(&first).integer().filter(|columns| (1..=COLUMNS_MAX).contains(columns));
    let columns = columns.ok_or(Error::Malformed("no answer to a query"))?;
    let mut names = Vec::new();
    for _ in 0..columns {
        let definition = wire.read().await?;
        let mut fields = Fields(&definition);
        let name = (0..=BEFORE_NAME).map(|_| fields.column()).last();
        names.push(name.flatten().flatten().unwrap_or_default());
    }
    if !is_end(&wire.read().await?) {
        return Err(Error::Malformed("an answer of more columns than it has"));
    }
    let mut rows = Vec::new();
    loop {
        let packet = wire.read().await?;
        if is_end(&packet) {
            return Ok(Table { columns: names, rows });
        }
        let mut fields = Fields(&packet);
        let row: Option<Row> = (0..columns).map(|_| fields.column()).collect();
        rows.push(row.ok_or(Error::Malformed("a row that is cut off"))?);
    }
}

/// Whether a packet ends a list. The first column of a row may be as long as this byte says, but its packet is then longer.
fn is_end(packet: &[u8]) -> bool {
    packet.first() == Some(&0xfe) && packet.len() < 9
}

fn number(rows: &[Row], column: usize) -> Option<u64> {
    rows.first()?.get(column)?.as_ref()?.parse().ok()
}

impl Drop for Session {
    fn drop(&mut self) {
        let (Some(wire), Ok(runtime)) = (self.wire.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        runtime.spawn(async move {
            let _ = tokio::time::timeout(GOODBYE, wire.quit()).await;
        });
    }
}
