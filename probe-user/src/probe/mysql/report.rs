//! What a MySQL or MariaDB server reports of its replication, and whether it takes writes.

use std::time::{Duration, Instant};

use super::{
    failure::Error,
    session::{Session, Table},
};
use crate::{
    config::Probe,
    fact::{DatabaseRole, ProbeFailure, ServerReport},
};

/// The wait before a user without the right is tried again: it may have been granted meanwhile.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// The longest words of a server for an error that are passed on, in characters.
const WORDS_MAX: usize = 200;

/// Servers before MySQL 8.0.22 and MariaDB 10.5.1 know only the second one, MySQL from 8.4 on only the first one.
const STATEMENTS: [&str; 2] = ["SHOW REPLICA STATUS", "SHOW SLAVE STATUS"];

/// `ER_PARSE_ERROR`.
const UNKNOWN_STATEMENT: u16 = 1064;

/// What is kept from one run to the next.
#[derive(Debug, Default)]
pub(super) struct Reported {
    /// The statement that the server knows, as a position in [`STATEMENTS`].
    statement: usize,
    /// When the server refused it.
    refused: Option<Instant>,
}

/// What is wrong whatever the limits.
pub(super) type Complaint = (ProbeFailure, String);

/// Asks the server, which may refuse, and notes each answer in `report` as it comes. An error is of the connection.
pub(super) async fn ask(
    session: &mut Session,
    probe: &Probe,
    kept: &mut Reported,
    report: &mut ServerReport,
) -> Result<Option<Complaint>, Error> {
    if probe.server.role.is_some() {
        match session.table("SELECT @@global.read_only").await {
            Ok(table) => report.role = role(&table),
            Err(Error::Refused { .. }) => report.withheld = true,
            Err(error) => return Err(error),
        }
    }
    let Some(channels) = kept.channels(session).await? else {
        report.withheld = true;
        return Ok(None);
    };
    let lag =
        channels.rows().filter_map(|row| row.number(&["Seconds_Behind_Source", "Seconds_Behind_Master"]));
    report.lag = lag.max().map(Duration::from_secs);
    let expected = probe.server.role == Some(DatabaseRole::Replica) || probe.server.lag.is_some();
    let complaint = channels.rows().find_map(|channel| stopped(channel, expected));
    Ok(complaint.map(|words| (ProbeFailure::Replication, words)))
}

impl Reported {
    /// The channels by which it copies other servers; None if it does not say.
    async fn channels(&mut self, session: &mut Session) -> Result<Option<Table>, Error> {
        if self.refused.is_some_and(|at| at.elapsed() < REFUSED_FOR) {
            return Ok(None);
        }
        self.refused = None;
        while let Some(statement) = STATEMENTS.get(self.statement) {
            match session.table(statement).await {
                Ok(table) => return Ok(Some(table)),
                Err(Error::Refused { code: UNKNOWN_STATEMENT, .. }) => self.statement += 1,
                Err(Error::Refused { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        if self.statement < STATEMENTS.len() {
            self.refused = Some(Instant::now());
        }
        Ok(None)
    }
}

fn role(table: &Table) -> Option<DatabaseRole> {
    let value = table.rows().next()?.first()?;
    Some(if matches!(value, "0" | "OFF") { DatabaseRole::Primary } else { DatabaseRole::Replica })
}

/// Why a channel copies nothing. A thread that was stopped without an error was stopped on purpose, which is wrong only where
/// replication is expected.
fn stopped(channel: Channel<'_>, expected: bool) -> Option<String> {
    let host = channel.text(&["Source_Host", "Master_Host"]).unwrap_or("an unknown host");
    let threads = [
        ("IO", ["Replica_IO_Running", "Slave_IO_Running"], "Last_IO_Error"),
        ("SQL", ["Replica_SQL_Running", "Slave_SQL_Running"], "Last_SQL_Error"),
    ];
    threads.into_iter().find_map(|(thread, running, error)| {
        let state = channel.text(&running)?;
        let error = channel.text(&[error]).filter(|error| !error.is_empty());
        if state == "Yes" || error.is_none() && !(expected && state == "No") {
            return None;
        }
        let state = if state == "No" { "is stopped" } else { "does not reach it" };
        let why = error.map_or_else(String::new, |error| {
            let end = error.char_indices().nth(WORDS_MAX).map_or(error.len(), |(end, _)| end);
            format!(": {}", &error[..end])
        });
        Some(format!("is a replica of {host}, and its {thread} thread {state}{why}"))
    })
}

type Channel<'t> = super::session::TableRow<'t>;

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(fields: &[(&str, &str)]) -> Table {
        let (columns, row) =
            fields.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).unzip();
        Table { columns, rows: vec![row] }
    }

    fn complaint(fields: &[(&str, &str)], expected: bool) -> Option<String> {
        stopped(channel(fields).rows().next().unwrap(), expected)
    }

    #[test]
    fn a_thread_that_failed_is_told_and_one_that_was_stopped_where_it_is_expected() {
        let mariadb = |io, io_error, sql, sql_error| {
            [
                ("Master_Host", "10.0.0.9"),
                ("Slave_IO_Running", io),
                ("Slave_SQL_Running", sql),
                ("Last_IO_Error", io_error),
                ("Last_SQL_Error", sql_error),
            ]
        };
        assert_eq!(complaint(&mariadb("Yes", "", "Yes", ""), true), None);
        assert_eq!(
            complaint(&mariadb("Connecting", "", "Yes", ""), true),
            None,
            "it may be about to connect"
        );
        let words = complaint(&mariadb("Yes", "", "No", "Table 'a.b' doesn't exist"), false).unwrap();
        assert_eq!(
            words,
            "is a replica of 10.0.0.9, and its SQL thread is stopped: Table 'a.b' doesn't exist"
        );
        let words = complaint(&mariadb("Connecting", "Can't connect", "Yes", ""), false).unwrap();
        assert_eq!(words, "is a replica of 10.0.0.9, and its IO thread does not reach it: Can't connect");
        assert_eq!(complaint(&mariadb("No", "", "No", ""), false), None, "an operator stopped it");
        let words = complaint(&mariadb("No", "", "Yes", ""), true).unwrap();
        assert_eq!(words, "is a replica of 10.0.0.9, and its IO thread is stopped");
        let mysql = [("Source_Host", "h"), ("Replica_IO_Running", "No"), ("Last_IO_Error", "é")];
        assert_eq!(complaint(&mysql, false).unwrap(), "is a replica of h, and its IO thread is stopped: é");
        assert_eq!(complaint(&[("Slave_IO_Running", "")], false), None);
    }

    #[test]
    fn a_server_that_is_read_only_is_a_replica() {
        for (value, expected) in
            [("0", DatabaseRole::Primary), ("OFF", DatabaseRole::Primary), ("1", DatabaseRole::Replica)]
        {
            assert_eq!(role(&channel(&[("@@global.read_only", value)])), Some(expected));
        }
    }
}
