//! What a database reports of itself against the limits of its probe.

use crate::fact::{DatabaseRole, ProbeFailure, ServerLimits, ServerUsage};

/// A limit that was exceeded is exceeded until the number is well below it: at this share of it, in percent.
const WELL_BELOW: u32 = 90;

#[derive(Debug)]
pub struct ServerBreach {
    limits: ServerLimits,
    /// The limit that the latest report exceeded.
    exceeded: Option<ProbeFailure>,
}

impl ServerBreach {
    pub fn new(limits: ServerLimits) -> Self {
        Self { limits, exceeded: None }
    }

    /// What is beyond the limits, the worst first, for people.
    pub fn judge(&mut self, server: &ServerUsage) -> Option<(ProbeFailure, String)> {
        let role =
            self.limits.role.zip(server.report.role).and_then(|(wanted, role)| wrong_role(wanted, role));
        let found = role.or_else(|| self.late(server));
        self.exceeded = found.as_ref().map(|(failure, _)| *failure);
        found
    }

    fn late(&self, server: &ServerUsage) -> Option<(ProbeFailure, String)> {
        let (limits, report) = (&self.limits, &server.report);
        let holder = server.holders.first().map(|holder| holder.words());
        let by = holder.as_ref().map_or_else(String::new, |holder| format!(", by {holder}"));
        let on = holder.map_or_else(String::new, |holder| format!(" for {holder}"));
        let waiting = report.waiting.unwrap_or_default();
        let rows = [
            (ProbeFailure::Lag, report.lag, limits.lag, "is behind its primary by".to_owned(), ""),
            (
                ProbeFailure::Wait,
                report.wait,
                limits.wait,
                format!("has {waiting} waiting{on}, the longest for"),
                "",
            ),
            (
                ProbeFailure::Transaction,
                report.transaction,
                limits.transaction,
                "has a transaction that is open for".to_owned(),
                by.as_str(),
            ),
        ];
        rows.into_iter().find_map(|(failure, time, limit, words, by)| {
            let (time, limit) = time.zip(limit)?;
            let most = if self.exceeded == Some(failure) { limit / 100 * WELL_BELOW } else { limit };
            let words = format!("{words} {:.1} s{by}, above its limit of {limit:?}", time.as_secs_f64());
            (time > most).then_some((failure, words))
        })
    }
}

fn wrong_role(wanted: DatabaseRole, role: DatabaseRole) -> Option<(ProbeFailure, String)> {
    let words = match (wanted, role) {
        (DatabaseRole::Primary, DatabaseRole::Replica) => {
            "is a replica or read-only, and its `role` is \"primary\""
        }
        (DatabaseRole::Replica, DatabaseRole::Primary) => "takes writes, and its `role` is \"replica\"",
        (DatabaseRole::Primary, DatabaseRole::Primary) | (DatabaseRole::Replica, DatabaseRole::Replica) => {
            return None;
        }
    };
    Some((ProbeFailure::Role, words.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{Holder, ServerReport};

    use std::time::Duration;
    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> ServerLimits {
        ServerLimits { lag: Some(10 * SECOND), wait: Some(5 * SECOND), ..ServerLimits::default() }
    }

    fn reported(report: ServerReport) -> ServerUsage {
        ServerUsage { report, ..ServerUsage::default() }
    }

    #[test]
    fn a_lag_above_its_limit_lasts_until_it_is_well_below() {
        let mut breach = ServerBreach::new(limits());
        let mut judge = |seconds: u32| {
            let lag = Some(SECOND * seconds);
            breach.judge(&reported(ServerReport { lag, ..ServerReport::default() }))
        };
        assert_eq!(judge(10), None);
        let words = "is behind its primary by 11.0 s, above its limit of 10s";
        assert_eq!(judge(11), Some((ProbeFailure::Lag, words.to_owned())));
        assert!(judge(10).is_some(), "just below is not well below");
        assert_eq!(judge(9), None);
        assert_eq!(judge(10), None);
    }

    #[test]
    fn a_wait_names_the_session_that_the_others_wait_for() {
        let mut usage =
            reported(ServerReport { waiting: Some(3), wait: Some(6 * SECOND), ..ServerReport::default() });
        usage.holders = vec![Holder { application: Some("orders".to_owned()), ..Holder::default() }];
        let (failure, words) = ServerBreach::new(limits()).judge(&usage).unwrap();
        assert_eq!(failure, ProbeFailure::Wait);
        let expected = "has 3 waiting for application orders, the longest for 6.0 s, above its limit of 5s";
        assert_eq!(words, expected);
    }

    #[test]
    fn a_role_counts_where_one_is_expected_and_one_is_known() {
        let usage = |role| reported(ServerReport { role, ..ServerReport::default() });
        let (primary, replica) = (Some(DatabaseRole::Primary), Some(DatabaseRole::Replica));
        for (role, reported, wrong) in [
            (None, replica, false),
            (primary, None, false),
            (primary, primary, false),
            (replica, replica, false),
            (primary, replica, true),
            (replica, primary, true),
        ] {
            let limits = ServerLimits { role, ..ServerLimits::default() };
            let found = ServerBreach::new(limits).judge(&usage(reported));
            assert_eq!(
                found.map(|(failure, _)| failure),
                wrong.then_some(ProbeFailure::Role),
                "{role:?} {reported:?}"
            );
        }
    }

    #[test]
    fn without_limits_and_without_numbers_nothing_is_wrong() {
        assert_eq!(ServerBreach::new(limits()).judge(&ServerUsage::default()), None);
        let late = ServerReport { lag: Some(1000 * SECOND), ..ServerReport::default() };
        assert_eq!(ServerBreach::new(ServerLimits::default()).judge(&reported(late)), None);
    }
}
