//! The other members of a cluster, and of a group of sentinels, as the server sees them.
//!
//! A server that is neither is asked nothing.

use redis::cmd;

use super::{Reply, Server, info::Info};
use crate::{
    fact::{ProbeFailure, ProbeOutcome, ServerReport},
    probe::{failure::Failure, usage::report_time},
};

/// The slots of every cluster.
const SLOTS: u64 = 16_384;

/// The most primaries of a sentinel that are asked about.
const PRIMARIES: usize = 8;

impl Server<'_> {
    /// Whether the members that the server needs are there.
    pub(super) async fn ask_of_members(
        &mut self,
        info: &Info<'_>,
        report: &mut ServerReport,
    ) -> Result<ProbeOutcome, Failure> {
        let time = report_time(self.probe);
        let asking = async {
            if info.field("cluster_enabled") == Some("1") {
                self.ask_of_cluster(report).await
            } else if info.field("redis_mode") == Some("sentinel") {
                self.ask_of_quorum(info, report).await
            } else {
                Ok(None)
            }
        };
        // The server works: a report that takes long is no failure.
        let Ok(complaint) = tokio::time::timeout(time, asking).await else { return Ok(ProbeOutcome::Ok) };
        match complaint? {
            Some(words) => Err(Failure::new(ProbeFailure::Cluster, format!("{} {words}", self.peer))),
            None => Ok(ProbeOutcome::Ok),
        }
    }

    async fn ask_of_cluster(&mut self, report: &mut ServerReport) -> Result<Option<String>, Failure> {
        self.waiting.set("the reply to CLUSTER INFO");
        match self.request(cmd("CLUSTER").arg("INFO")).await? {
            Reply::Text(text) => {
                let cluster = Info(&text);
                report.uncovered_slots = cluster.uncovered_slots();
                Ok(cluster.incomplete())
            }
            Reply::Error(_) => {
                report.withheld = true;
                Ok(None)
            }
        }
    }

    /// Sends all questions before it reads the first answer.
    async fn ask_of_quorum(
        &mut self,
        info: &Info<'_>,
        report: &mut ServerReport,
    ) -> Result<Option<String>, Failure> {
        self.waiting.set("the reply to SENTINEL CKQUORUM");
        let primaries: Vec<&str> = info.watched_primaries().take(PRIMARIES).collect();
        let questions: Vec<u8> = primaries
            .iter()
            .flat_map(|name| cmd("SENTINEL").arg("CKQUORUM").arg(name).get_packed_command())
            .collect();
        let answers = self.request_all(&questions, primaries.len()).await?;
        let mut lacks = None;
        for (name, answer) in primaries.into_iter().zip(answers) {
            match answer {
                Reply::Error(words) if words.starts_with("NOQUORUM") => {
                    lacks.get_or_insert_with(|| {
                        format!("has too few sentinels to fail over {name}, and answered: {words}")
                    });
                }
                Reply::Error(_) => report.withheld = true,
                Reply::Text(_) => {}
            }
        }
        Ok(lacks)
    }
}

impl<'a> Info<'a> {
    /// The names of the primaries that a sentinel watches: `master0:name=orders,status=ok,…`.
    fn watched_primaries(&self) -> impl Iterator<Item = &'a str> {
        self.0.lines().filter_map(|line| {
            let (number, fields) = line.strip_prefix("master")?.split_once(':')?;
            number.parse::<u32>().ok()?;
            fields.strip_prefix("name=")?.split(',').next()
        })
    }

    /// Of an answer to `CLUSTER INFO`: slots that no node has, or whose node has failed.
    fn uncovered_slots(&self) -> Option<u64> {
        let assigned = self.number("cluster_slots_assigned")?;
        let failed = self.number("cluster_slots_fail").unwrap_or_default();
        Some(SLOTS.saturating_sub(assigned).saturating_add(failed).min(SLOTS))
    }

    /// Why a cluster does not serve all of its keys.
    fn incomplete(&self) -> Option<String> {
        let uncovered = self.uncovered_slots().unwrap_or_default();
        let slots = format!("{uncovered} of its {SLOTS} slots are served by no node");
        match self.field("cluster_state") {
            Some("fail") => Some(format!("says that its cluster is down (cluster_state:fail), and {slots}")),
            Some(_) | None => (uncovered > 0).then(|| format!("is in a cluster that lacks keys: {slots}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_lacks_the_slots_that_no_node_has_and_those_of_failed_nodes() {
        let whole = Info("cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_fail:0\r\n");
        assert_eq!((whole.uncovered_slots(), whole.incomplete()), (Some(0), None));
        let down = Info("cluster_state:fail\r\ncluster_slots_assigned:16383\r\ncluster_slots_fail:0\r\n");
        let words = "says that its cluster is down (cluster_state:fail), and 1 of its 16384 slots are served by no node";
        assert_eq!(down.incomplete().as_deref(), Some(words));
        let partial = Info("cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_fail:5461\r\n");
        assert!(partial.incomplete().unwrap().contains("5461 of its 16384 slots"));
        assert_eq!(Info("").incomplete(), None);
        let absurd = Info("cluster_slots_assigned:99999\r\ncluster_slots_fail:18446744073709551615\r\n");
        assert_eq!(absurd.uncovered_slots(), Some(SLOTS));
    }

    #[test]
    fn the_primaries_of_a_sentinel_are_those_it_lists() {
        let info = Info(
            "sentinel_masters:2\r\nmaster0:name=orders,status=ok,sentinels=3\r\nmaster1:name=web,status=odown\r\n\
                         master_host:h\r\nmasterx:name=no\r\n",
        );
        assert_eq!(info.watched_primaries().collect::<Vec<_>>(), ["orders", "web"]);
    }
}
