//! What a PostgreSQL server reports of its replication, its transactions and their locks, and its transaction ids.
//!
//! One query reads it all, from views that every user may read: they leave out what the user may not see. Who waits for
//! whom is a second query, which is sent only where sessions wait and the probe limits that.

use std::time::{Duration, Instant};

use tokio_postgres::SimpleQueryRow;

use super::session::Session;
use crate::{
    config::Probe,
    fact::{DatabaseRole, Holder, ProbeFailure, ServerReport},
};

/// A server that does not know the query, such as one that only speaks PostgreSQL's protocol, would log each one.
const REFUSED_FOR: Duration = Duration::from_secs(600);

/// `waitstart` came with version 14.
const WAITSTART_SINCE: u64 = 140_000;

/// The default of `vacuum_failsafe_age`, which came with version 14.
const FAILSAFE_AGE: u64 = 1_600_000_000;

/// 40 million ids before the end the server warns with every statement (`SetTransactionIdLimit` in varsup.c).
const WARNS_FROM: u64 = (1 << 31) - 40_000_000;

/// Oldest first are transactions of clients, and those that are prepared and have no client.
///
/// The time of the last replay says how far a standby is behind only while it has something to replay: an idle primary sends
/// nothing. `primary_conninfo` is shown to few users; to the others, a standby without a receiver may be fed from an archive.
const REPORT: &str = "SELECT pg_is_in_recovery(), \
    CASE WHEN pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn() THEN 0 \
    WHEN pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn() \
    THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END, \
    CASE WHEN pg_is_in_recovery() \
    THEN greatest(pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), 0) END, \
    pg_is_in_recovery() AND NOT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE pid IS NOT NULL) \
    AND EXISTS (SELECT FROM pg_settings WHERE name = 'primary_conninfo' AND setting <> '') \
    AND EXISTS (SELECT FROM pg_settings WHERE name = 'restore_command' AND setting = ''), \
    (SELECT count(*) FROM pg_stat_replication), \
    greatest((SELECT extract(epoch FROM max(clock_timestamp() - xact_start)) FROM pg_stat_activity \
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()), \
    (SELECT extract(epoch FROM max(clock_timestamp() - prepared)) FROM pg_prepared_xacts)), \
    (SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'), \
    (SELECT max(age(datfrozenxid)) FROM pg_database), \
    current_setting('autovacuum_freeze_max_age'), \
    current_setting('vacuum_failsafe_age', true), \
    current_setting('server_version_num'), \
    NOT pg_has_role('pg_read_all_stats', 'USAGE')";

const LONGEST_WAIT: &str =
    "SELECT extract(epoch FROM max(clock_timestamp() - waitstart)) FROM pg_locks WHERE NOT granted";

/// The sessions at the head of each queue: they wait for no lock themselves.
const BLOCKING: &str = "wait_event_type IS DISTINCT FROM 'Lock' AND pid IN (SELECT unnest(pg_blocking_pids(pid)) \
    FROM (SELECT pid FROM pg_locks WHERE NOT granted LIMIT 16) AS waiting)";

const OLDEST: &str = "pid = (SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' \
    AND pid <> pg_backend_pid() AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 1)";

/// What is kept from one run to the next.
#[derive(Debug, Default)]
pub(super) struct Reported {
    /// When the server refused the query.
    refused: Option<Instant>,
    /// When a standby had last applied all that it had received, or was first seen to be behind.
    caught_up: Option<Instant>,
}

/// A server's answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) report: ServerReport,
    /// The sessions that others wait for, or that of the oldest transaction.
    pub(super) holders: Vec<Holder>,
    /// What is wrong whatever the limits.
    pub(super) complaint: Option<(ProbeFailure, String)>,
}

/// Asks the server; an empty answer if it refuses.
pub(super) async fn ask(session: &mut Session, probe: &Probe, kept: &mut Reported) -> Answer {
    let withheld = ServerReport { withheld: true, ..ServerReport::default() };
    let refused = Answer { report: withheld, ..Answer::default() };
    if kept.refused.is_some_and(|at| at.elapsed() < REFUSED_FOR) {
        return refused;
    }
    kept.refused = None;
    let rows = match session.query(REPORT).await {
        Ok(rows) => rows,
        Err(error) => {
            kept.refused = error.as_db_error().map(|_| Instant::now());
            return refused;
        }
    };
    let Some(row) = rows.first().map(Row) else { return refused };
    let mut answer = row.answer();
    kept.bound_lag(&mut answer.report);
    let Answer { report, holders, .. } = &mut answer;
    if report.waiting > Some(0) && probe.server.wait.is_some() && row.number(10) >= Some(WAITSTART_SINCE) {
        let rows = session.query(LONGEST_WAIT).await.unwrap_or_default();
        report.wait = rows.first().and_then(|row| Row(row).seconds(0));
    }
    let is_late = |time: Option<Duration>, limit| time.zip(limit).is_some_and(|(time, limit)| time > limit);
    if is_late(report.wait, probe.server.wait) {
        *holders = session.holders_where(BLOCKING).await;
    } else if is_late(report.transaction, probe.server.transaction) {
        *holders = session.holders_where(OLDEST).await;
    }
    answer
}

impl Reported {
    /// The last replay may be long ago because the primary was idle: a standby is not further behind than since it had caught
    /// up. One that has replayed no transaction since it started has no time of it: it is behind since it was seen to be.
    fn bound_lag(&mut self, report: &mut ServerReport) {
        match report.lag {
            Some(Duration::ZERO) => self.caught_up = Some(Instant::now()),
            Some(lag) => {
                report.lag = Some(self.caught_up.map_or(lag, |caught_up| lag.min(caught_up.elapsed())));
            }
            None if report.lag_bytes > Some(0) => {
                report.lag = Some(self.caught_up.get_or_insert_with(Instant::now).elapsed());
            }
            None => {}
        }
    }
}

#[derive(Clone, Copy)]
struct Row<'r>(&'r SimpleQueryRow);

impl Row<'_> {
    fn answer(self) -> Answer {
        let is_replica = self.is(0);
        let of = |wanted: bool, number: Option<u64>| number.filter(|_| is_replica == Some(wanted));
        let report = ServerReport {
            role: is_replica
                .map(|is_replica| if is_replica { DatabaseRole::Replica } else { DatabaseRole::Primary }),
            lag: self.seconds(1).filter(|_| is_replica == Some(true)),
            lag_bytes: of(true, self.number(2)),
            replicas: self.number(4),
            transaction: self.seconds(5),
            waiting: self.number(6),
            transaction_id_age: self.number(7),
            withheld: self.is(11) == Some(true),
            ..ServerReport::default()
        };
        let complaint = if self.is(3) == Some(true) {
            let words = "is a standby, and receives nothing from its primary: no WAL receiver is connected";
            Some((ProbeFailure::Replication, words.to_owned()))
        } else {
            // The primary's VACUUM freezes the rows of a standby as well.
            of(false, self.number(7)).and_then(|age| wraparound(age, self.number(8), self.number(9)))
        };
        Answer { report, holders: Vec::new(), complaint }
    }

    fn text(&self, column: usize) -> Option<&str> {
        self.0.try_get(column).ok().flatten()
    }

    fn number(&self, column: usize) -> Option<u64> {
        self.text(column)?.parse().ok()
    }

    fn is(&self, column: usize) -> Option<bool> {
        self.text(column).map(|text| text == "t")
    }

    /// A clock that was set back makes negative times.
    fn seconds(&self, column: usize) -> Option<Duration> {
        let seconds: f64 = self.text(column)?.parse().ok()?;
        Duration::try_from_secs_f64(seconds.max(0.0)).ok()
    }
}

/// Whether VACUUM has come to its failsafe, which leaves out whatever else it does (`vacuum_xid_failsafe_check` in vacuum.c).
fn wraparound(
    age: u64,
    freeze_max_age: Option<u64>,
    failsafe_age: Option<u64>,
) -> Option<(ProbeFailure, String)> {
    let by_freeze = freeze_max_age.unwrap_or_default().saturating_mul(105) / 100;
    let limit = failsafe_age.unwrap_or(FAILSAFE_AGE).max(by_freeze).min(WARNS_FROM);
    (age > limit).then(|| {
        let words = format!(
            "has transaction ids of age {age}, beyond the emergency of autovacuum at {limit}: at {} it takes no writes",
            1_u64 << 31
        );
        (ProbeFailure::Wraparound, words)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_counts_beyond_the_failsafe_and_before_the_server_warns_by_itself() {
        let is_wrong = |age, freeze, failsafe| wraparound(age, freeze, failsafe).is_some();
        assert!(!is_wrong(1_600_000_000, Some(200_000_000), Some(1_600_000_000)));
        assert!(is_wrong(1_600_000_001, Some(200_000_000), Some(1_600_000_000)));
        assert!(
            !is_wrong(1_900_000_000, Some(2_000_000_000), None),
            "it is allowed 5 % more than autovacuum"
        );
        assert!(is_wrong(WARNS_FROM + 1, Some(u64::MAX), Some(u64::MAX)));
        assert!(is_wrong(105_001, Some(100_000), Some(0)));
        assert!(!is_wrong(105_000, Some(100_000), Some(0)));
    }

    #[test]
    fn a_standby_is_not_further_behind_than_since_it_had_caught_up() {
        let mut kept = Reported::default();
        let mut bounded = |seconds| {
            let mut report =
                ServerReport { lag: Some(Duration::from_secs(seconds)), ..ServerReport::default() };
            kept.bound_lag(&mut report);
            report.lag
        };
        let hour = Some(Duration::from_secs(3600));
        assert_eq!(bounded(3600), hour, "it may have been so before the first run");
        assert_eq!(bounded(0), Some(Duration::ZERO));
        assert!(bounded(3600) < hour, "its primary was idle for an hour");
    }

    #[test]
    fn a_standby_that_has_replayed_no_transaction_is_behind_since_it_was_seen_to_be() {
        let mut kept = Reported::default();
        let mut lag_with = |lag_bytes| {
            let mut report = ServerReport { lag_bytes, ..ServerReport::default() };
            kept.bound_lag(&mut report);
            report.lag
        };
        assert_eq!(lag_with(None), None, "it is fed from an archive");
        assert_eq!(lag_with(Some(0)), None);
        let first = lag_with(Some(8));
        assert!(first.is_some());
        assert!(lag_with(Some(8)) > first);
    }
}
