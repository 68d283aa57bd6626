//! What databases report: the time they have for it, and the limit and the words of their connections in use.

use std::time::Duration;

use super::failure::Failure;
use crate::{
    config::Probe,
    fact::{ProbeFailure, ServerUsage, Share},
};

/// The most holders of connections that are named.
pub(super) const HOLDERS: usize = 8;

/// The most ports that are kept of one holder.
pub(super) const PORTS: usize = 64;

/// The longest wait for the report of a server that has answered.
const REPORT_MAX: Duration = Duration::from_secs(1);

/// How long a server that has answered may take to report its numbers.
pub(super) fn report_time(probe: &Probe) -> Duration {
    (probe.timeout / 4).min(REPORT_MAX)
}

/// The percentage of `connections` in use, if that is more than the probe allows.
pub(super) fn above_limit(probe: &Probe, connections: Share) -> Option<u8> {
    probe.connections_percent.filter(|&limit| connections.percent() > f64::from(limit))
}

/// More connections are in use than the probe allows.
pub(super) fn too_many(peer: &str, usage: &ServerUsage, limit: u8) -> Failure {
    let words = words(usage).unwrap_or_else(|| "too many connections are in use".to_owned());
    Failure::new(ProbeFailure::Connections, format!("{peer}: {words}, above the limit of {limit} %"))
}

/// The connections in use, and their largest holders.
pub(super) fn words(usage: &ServerUsage) -> Option<String> {
    let Share { used, most } = usage.connections?;
    let by = usage
        .holders
        .first()
        .map_or_else(String::new, |holder| format!(", most by {} ({})", holder.words(), holder.connections));
    // Superusers and reserved slots may go beyond what others share.
    let words = match used <= most {
        true => format!("{used} of {most} connections are in use"),
        false => format!("{used} connections are in use, and {most} are allowed"),
    };
    Some(format!("{words}{by}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fact::{Holder, ProbeKind},
        probe::tests::probe,
    };

    #[test]
    fn the_limit_is_passed_only_above_it() {
        let mut probe = probe(ProbeKind::Postgres, "postgres://u@h/d");
        let above = |probe: &Probe, used| above_limit(probe, Share { used, most: 100 });
        assert_eq!(above(&probe, 100), None, "no limit is set");
        probe.connections_percent = Some(90);
        assert_eq!(above(&probe, 90), None);
        assert_eq!(above(&probe, 91), Some(90));
    }

    #[test]
    fn the_largest_holder_is_named_by_all_that_is_known() {
        let holder = Holder {
            user: Some("web".to_owned()),
            application: Some("orders".to_owned()),
            client: Some([10, 0, 0, 1].into()),
            connections: 90,
            ..Holder::default()
        };
        let connections = Some(Share { used: 93, most: 97 });
        let mut usage = ServerUsage { connections, holders: vec![holder], ..ServerUsage::default() };
        assert_eq!(
            words(&usage).unwrap(),
            "93 of 97 connections are in use, most by application orders, user web, from 10.0.0.1 (90)"
        );
        usage.holders =
            vec![Holder { application: Some(String::new()), connections: 3, ..Holder::default() }];
        assert!(words(&usage).unwrap().ends_with("most by a client without a name (3)"));
        usage.holders.clear();
        assert_eq!(words(&usage).unwrap(), "93 of 97 connections are in use");
        usage.connections = Some(Share { used: 12, most: 9 });
        assert_eq!(words(&usage).unwrap(), "12 connections are in use, and 9 are allowed");
        usage.connections = Some(Share { used: 9, most: 9 });
        assert_eq!(words(&usage).unwrap(), "9 of 9 connections are in use");
        usage.connections = None;
        assert_eq!(words(&usage), None);
    }
}
