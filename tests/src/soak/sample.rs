//! One look at what the daemon uses.

use std::fs;

use crate::http;

/// What it used at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Resident memory, bytes.
    pub rss: u64,
    /// Open descriptors.
    pub fds: u64,
    pub threads: u64,
    pub tables: Vec<Table>,
}

/// A table of the daemon's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub entries: u64,
    /// The most it can have.
    pub limit: u64,
}

impl Sample {
    /// Looks at a daemon whose metrics are served on a loopback port; None if it is gone.
    pub fn take(pid: u32, page: u16) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
        let metrics = http::get(page, "/metrics").ok()?.1;
        Some(Self {
            rss: field("VmRSS")? * 1024,
            fds: fds as u64,
            threads: field("Threads")?,
            tables: tables(&metrics),
        })
    }
}

fn tables(metrics: &str) -> Vec<Table> {
    let values = |metric: &'static str| {
        metrics.lines().filter_map(move |line| {
            let (name, value) = line.strip_prefix(metric)?.strip_prefix("{table=\"")?.split_once("\"} ")?;
            Some((name, value.parse::<u64>().ok()?))
        })
    };
    let limit = |wanted: &str| {
        values("hostprobe_table_limit").find(|(name, _)| *name == wanted).map(|(_, limit)| limit)
    };
    let entries = values("hostprobe_table_entries");
    let mut tables: Vec<Table> = entries
        .filter_map(|(name, entries)| Some(Table { name: name.to_owned(), entries, limit: limit(name)? }))
        .collect();
    tables.sort_by(|one, other| one.name.cmp(&other.name));
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_with_their_limits() {
        let metrics = "# TYPE hostprobe_table_entries gauge\nhostprobe_table_entries{table=\"b\"} 3\n\
                       hostprobe_table_entries{table=\"a\"} 0\nhostprobe_table_limit{table=\"a\"} 8\n\
                       hostprobe_table_limit{table=\"b\"} 9\n";
        let table = |name: &str, entries, limit| Table { name: name.to_owned(), entries, limit };
        assert_eq!(tables(metrics), [table("a", 0, 8), table("b", 3, 9)]);
    }
}
