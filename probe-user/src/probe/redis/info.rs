//! The meaning of `INFO`: the server refuses writes, has lost its primary, or uses too much.

use crate::fact::{ProbeFailure, ServerUsage, Share};

/// An answer to `INFO`, whole or of one section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Info<'a>(pub &'a str);

/// What has to be compared with the run before.
#[derive(Debug, Default)]
pub(in crate::probe) struct Counted {
    run_id: String,
    /// Writes that were refused because memory was full, since the server started.
    refused: u64,
    /// It has refused writes, and has not had room again since.
    full: bool,
}

/// A server that has refused writes has room again below this share of its `maxmemory`, in percent. Just below the
/// limit it is only waiting for the next write that it will refuse.
const ROOM: u128 = 95;

impl Info<'_> {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }

    /// Memory against `maxmemory`, and clients against `maxclients`, where there are such limits.
    pub fn usage(&self) -> ServerUsage {
        let share = |used, most| Some(Share { used: self.number(used)?, most: self.number(most)? });
        ServerUsage {
            memory: share("used_memory", "maxmemory").filter(|memory| memory.most > 0),
            connections: share("connected_clients", "maxclients").filter(|clients| clients.most > 0),
            holders: Vec::new(),
            report: self.report(),
        }
    }

    /// What is wrong with a server that answers, the worst first; `memory_percent` is the probe's limit.
    pub fn complaint(
        &self,
        memory_percent: Option<u8>,
        counted: &mut Counted,
    ) -> Option<(ProbeFailure, String)> {
        let refused = self.refused_since(counted);
        counted.full = refused > 0 || counted.full && !self.has_room();
        let full = self.full().or_else(|| {
            if refused == 0 {
                return counted.full.then(|| self.refuses_yet());
            }
            let writes = if refused == 1 { "1 write".to_owned() } else { format!("{refused} writes") };
            Some(format!("has refused {writes} since it was last asked: its memory is full"))
        });
        let of = |kind| move |words| (kind, words);
        full.map(of(ProbeFailure::MemoryFull))
            .or_else(|| self.link_down().map(of(ProbeFailure::Replication)))
            .or_else(|| self.unsaved().map(of(ProbeFailure::Persistence)))
            .or_else(|| self.above(memory_percent?).map(of(ProbeFailure::Memory)))
    }

    /// It is at its limit and gives nothing up. Whether another policy finds something to give up does not show
    /// here; that it found nothing shows in the count of refused writes.
    fn full(&self) -> Option<String> {
        let Share { used, most } = self.usage().memory?;
        if self.field("maxmemory_policy") != Some("noeviction") || used < most {
            return None;
        }
        Some(format!(
            "uses {} of its maxmemory of {} and its policy is noeviction: it refuses writes",
            mib(used),
            mib(most)
        ))
    }

    /// Whether it has room for more. A server with an eviction policy is always near its limit, and makes room itself.
    fn has_room(&self) -> bool {
        let Some(Share { used, most }) = self.usage().memory else { return true };
        self.field("maxmemory_policy") != Some("noeviction")
            || u128::from(used) * 100 < u128::from(most) * ROOM
    }

    /// The words for a server that has refused writes before, and has no room yet.
    fn refuses_yet(&self) -> String {
        let Share { used, most } = self.usage().memory.unwrap_or(Share { used: 0, most: 0 });
        format!(
            "has refused writes, and still uses {} of its maxmemory of {}: its memory is full",
            mib(used),
            mib(most)
        )
    }

    /// Writes refused since the last run; 0 in the first run against a server.
    fn refused_since(&self, counted: &mut Counted) -> u64 {
        let run_id = self.field("run_id").unwrap_or_default();
        let count = self.field("errorstat_OOM").and_then(|stat| stat.strip_prefix("count=")?.parse().ok());
        let refused = count.unwrap_or(0);
        let same = counted.run_id == run_id && !run_id.is_empty();
        counted.full &= same;
        let before = std::mem::replace(&mut counted.refused, refused);
        counted.run_id = run_id.to_owned();
        if same { refused.saturating_sub(before) } else { 0 }
    }

    /// A replica without its primary. One that copies its primary afresh answers meanwhile, and is well.
    pub fn link_down(&self) -> Option<String> {
        if self.field("master_link_status") != Some("down") || self.copies() {
            return None;
        }
        let host = self.field("master_host").unwrap_or("an unknown host");
        let port = self.field("master_port").unwrap_or("?");
        Some(match self.link_down_seconds() {
            Some(seconds) => {
                format!("is a replica, and its link to its primary {host}:{port} is down for {seconds} s")
            }
            None => format!("is a replica, and its link to its primary {host}:{port} has not come up"),
        })
    }

    /// A replica whose link to its primary was not up since its start.
    pub fn waits_for_first_sync(&self) -> bool {
        self.field("master_link_status") == Some("down") && self.link_down_seconds().is_none()
    }

    /// How long the link to the primary has been down; None if it never was up: -1, and the seconds since 1970 in
    /// servers before version 7.
    fn link_down_seconds(&self) -> Option<u64> {
        const YEARS: u64 = 1_000_000_000;
        self.number("master_link_down_since_seconds").filter(|seconds| *seconds < YEARS)
    }

    /// What a replica that copies its primary is doing.
    pub fn syncing(&self) -> Option<String> {
        self.copies().then(|| "it copies the data set of its primary".to_owned())
    }

    fn copies(&self) -> bool {
        self.field("master_sync_in_progress") == Some("1")
    }

    fn above(&self, limit: u8) -> Option<String> {
        let Share { used, most } = self.usage().memory?;
        let percent = (u128::from(used) * 100 / u128::from(most)) as u64;
        (percent > u64::from(limit)).then(|| {
            format!("uses {percent} % of its maxmemory ({used} of {most} bytes), more than {limit} %")
        })
    }

    /// How far a server that loads has come.
    pub fn progress(&self) -> Option<String> {
        let percent = self.field("loading_loaded_perc")?;
        let eta = self.field("loading_eta_seconds").filter(|eta| *eta != "0");
        Some(match eta {
            Some(eta) => format!("{percent} % loaded, about {eta} s to go"),
            None => format!("{percent} % loaded"),
        })
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(info: &str) -> Option<(ProbeFailure, String)> {
        Info(info).complaint(None, &mut Counted::default())
    }

    #[test]
    fn at_its_limit_a_server_that_evicts_nothing_is_full() {
        let info = |used: u64, policy: &str| {
            format!("used_memory:{used}\r\nmaxmemory:104857600\r\nmaxmemory_policy:{policy}\r\n")
        };
        let (kind, words) = complaint(&info(105_067_315, "noeviction")).unwrap();
        assert_eq!(kind, ProbeFailure::MemoryFull);
        let expected =
            "uses 100.2 MiB of its maxmemory of 100.0 MiB and its policy is noeviction: it refuses writes";
        assert_eq!(words, expected);
        assert_eq!(complaint(&info(104_857_599, "noeviction")), None);
        assert_eq!(complaint(&info(105_067_315, "allkeys-lru")), None);
        assert_eq!(complaint("used_memory:5\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n"), None);
    }

    #[test]
    fn writes_refused_since_the_last_probe_are_evidence_and_older_ones_are_not() {
        let mut counted = Counted::default();
        let mut run_with = |run: &str, count: u64| {
            let info = format!("run_id:{run}\r\n# Errorstats\r\nerrorstat_OOM:count={count}\r\n");
            Info(&info).complaint(None, &mut counted)
        };
        assert_eq!(run_with("a", 7), None, "they may be a year old");
        assert_eq!(run_with("a", 7), None);
        let (kind, words) = run_with("a", 10).unwrap();
        assert_eq!(kind, ProbeFailure::MemoryFull);
        assert_eq!(words, "has refused 3 writes since it was last asked: its memory is full");
        assert_eq!(run_with("a", 2), None, "the counts were reset");
        assert_eq!(run_with("b", 9), None, "it is another server");
        assert!(run_with("b", 10).unwrap().1.contains("refused 1 write since"));
    }

    #[test]
    fn one_that_has_refused_writes_is_full_until_it_has_room() {
        let mut counted = Counted::default();
        let mut run_with = |run: &str, refused: u64, used: u64, policy: &str| {
            let info = format!(
                "run_id:{run}\r\nused_memory:{used}\r\nmaxmemory:10485760\r\nmaxmemory_policy:{policy}\r\n\
                 errorstat_OOM:count={refused}\r\n"
            );
            Info(&info).complaint(None, &mut counted).map(|(_, words)| words)
        };
        assert_eq!(run_with("a", 3, 10_400_000, "noeviction"), None, "they may be a year old");
        assert!(run_with("a", 4, 10_400_000, "noeviction").unwrap().contains("1 write"));
        let expected =
            "has refused writes, and still uses 9.9 MiB of its maxmemory of 10.0 MiB: its memory is full";
        assert_eq!(run_with("a", 4, 10_400_000, "noeviction").unwrap(), expected, "no write came meanwhile");
        assert_eq!(run_with("a", 4, 9_900_000, "noeviction"), None);
        assert_eq!(
            run_with("a", 4, 10_400_000, "noeviction"),
            None,
            "it has filled up again, and refused nothing"
        );
        assert!(run_with("a", 5, 10_400_000, "noeviction").is_some());
        assert_eq!(run_with("b", 0, 10_400_000, "noeviction"), None, "it is another server");
        assert!(run_with("b", 1, 10_400_000, "allkeys-lru").is_some());
        assert_eq!(run_with("b", 1, 10_400_000, "allkeys-lru"), None, "it evicts");
    }

    #[test]
    fn a_replica_needs_its_primary_unless_it_copies_it() {
        let info = |status: &str, syncing: u8, since: i64| {
            format!(
                "role:slave\r\nmaster_host:10.0.0.9\r\nmaster_port:6379\r\nmaster_link_status:{status}\r\n\
                 master_sync_in_progress:{syncing}\r\nmaster_link_down_since_seconds:{since}\r\n"
            )
        };
        assert_eq!(complaint(&info("up", 0, -1)), None);
        assert_eq!(complaint(&info("down", 1, 5)), None);
        let (kind, words) = complaint(&info("down", 0, 7)).unwrap();
        assert_eq!(kind, ProbeFailure::Replication);
        assert_eq!(words, "is a replica, and its link to its primary 10.0.0.9:6379 is down for 7 s");
        assert!(complaint(&info("down", 0, -1)).unwrap().1.ends_with("has not come up"));
        assert!(Info(&info("down", 1, 5)).syncing().is_some());
    }

    #[test]
    fn usage_is_reported_where_there_are_limits() {
        let info = Info("connected_clients:3\r\nmaxclients:100\r\nused_memory:5\r\nmaxmemory:10\r\n");
        let usage = info.usage();
        assert_eq!(usage.connections, Some(Share { used: 3, most: 100 }));
        assert_eq!(usage.memory, Some(Share { used: 5, most: 10 }));
        assert_eq!(Info("used_memory:5\r\nmaxmemory:0\r\n").usage(), ServerUsage::default());
    }
}
