//! The numbers of `INFO` besides memory and clients: role, replication, persistence, eviction.

use std::time::Duration;

use super::info::Info;
use crate::fact::{DatabaseRole, ServerReport};

impl Info<'_> {
    pub(super) fn report(&self) -> ServerReport {
        let role = match self.field("role") {
            Some("master") => Some(DatabaseRole::Primary),
            Some("slave") => Some(DatabaseRole::Replica),
            Some(_) | None => None,
        };
        let of = |of: DatabaseRole, number: Option<u64>| number.filter(|_| role == Some(of));
        let received = self.number("slave_read_repl_offset").zip(self.number("slave_repl_offset"));
        let behind = received.map(|(read, applied)| read.saturating_sub(applied));
        ServerReport {
            role,
            // The number is -1 while the link is down.
            lag: of(DatabaseRole::Replica, self.number("master_last_io_seconds_ago"))
                .map(Duration::from_secs),
            lag_bytes: of(DatabaseRole::Replica, behind),
            replicas: of(DatabaseRole::Primary, self.number("connected_slaves")),
            evicted_keys: self.number("evicted_keys"),
            unsaved_changes: self.number("rdb_changes_since_last_save"),
            ..ServerReport::default()
        }
    }

    /// It could not save its data when it last tried.
    pub(super) fn unsaved(&self) -> Option<String> {
        let changes = self.number("rdb_changes_since_last_save").unwrap_or_default();
        if self.field("aof_last_write_status") == Some("err") {
            return Some(
                "could not write to its append-only file when it last tried (aof_last_write_status)"
                    .to_owned(),
            );
        }
        (self.field("rdb_last_bgsave_status") == Some("err")).then(|| {
            format!(
                "could not save its data when it last tried (rdb_last_bgsave_status): {changes} changes are not on the \
                 disk"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_reports_its_lag_and_a_primary_its_replicas() {
        let primary =
            Info("role:master\r\nconnected_slaves:2\r\nevicted_keys:9\r\nrdb_changes_since_last_save:4\r\n");
        let expected = ServerReport {
            role: Some(DatabaseRole::Primary),
            replicas: Some(2),
            evicted_keys: Some(9),
            unsaved_changes: Some(4),
            ..ServerReport::default()
        };
        assert_eq!(primary.report(), expected);
        let replica = "role:slave\r\nmaster_last_io_seconds_ago:3\r\nslave_read_repl_offset:700\r\n\
                       slave_repl_offset:500\r\nconnected_slaves:0\r\n";
        let expected = ServerReport {
            role: Some(DatabaseRole::Replica),
            lag: Some(Duration::from_secs(3)),
            lag_bytes: Some(200),
            ..ServerReport::default()
        };
        assert_eq!(Info(replica).report(), expected);
        assert_eq!(Info("role:slave\r\nmaster_last_io_seconds_ago:-1\r\n").report().lag, None);
    }

    #[test]
    fn a_failed_save_is_reported_until_one_succeeds() {
        assert_eq!(Info("rdb_last_bgsave_status:ok\r\naof_last_write_status:ok\r\n").unsaved(), None);
        let failed = "rdb_changes_since_last_save:12\r\nrdb_last_bgsave_status:err\r\n";
        assert!(Info(failed).unsaved().unwrap().ends_with("12 changes are not on the disk"));
        assert!(Info("aof_last_write_status:err\r\n").unsaved().unwrap().contains("append-only file"));
    }
}
