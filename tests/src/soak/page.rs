//! The tables in `docs/soak.md`.

use std::{fmt::Write as _, io};

use super::{Mib, judge, run::Run};
use crate::written_page;

impl Run {
    /// What went on and what it took, as Markdown tables.
    pub fn tables(&self) -> String {
        let [start, middle, last, most] = judge(&self.samples).rss.map(Mib);
        let mut text = "| | |\n|---|---:|\n".to_owned();
        let _ = writeln!(text, "| minutes | {} |", self.length.as_secs() / 60);
        for (what, count) in &self.counts {
            let _ = writeln!(text, "| {what} | {count} |");
        }
        let memory = [
            ("before it began", Mib(self.first.rss)),
            ("at the first look", start),
            ("median of the middle third", middle),
            ("median of the last third", last),
            ("at most", most),
        ];
        for (when, memory) in memory {
            let _ = writeln!(text, "| resident memory, {when} | {memory} |");
        }
        let ends = [&self.samples[0], &self.samples[self.samples.len() - 1]];
        let [fds, threads] = [ends.map(|it| it.fds), ends.map(|it| it.threads)];
        let _ = writeln!(text, "| descriptors, first and last | {}, {} |", fds[0], fds[1]);
        let _ = writeln!(text, "| threads, first and last | {}, {} |", threads[0], threads[1]);
        text += "\n| table | last | most | bound |\n|---|---:|---:|---:|\n";
        for table in &self.samples[self.samples.len() - 1].tables {
            let same =
                self.samples.iter().flat_map(|sample| &sample.tables).filter(|it| it.name == table.name);
            let most = same.map(|table| table.entries).max().unwrap_or_default();
            let _ = writeln!(text, "| {} | {} | {most} | {} |", table.name, table.entries, table.limit);
        }
        text += "\n| eBPF map | entries | bound | kernel memory |\n|---|---:|---:|---:|\n";
        for map in &self.maps {
            let entries = map.entries.map_or("all".to_owned(), |entries| entries.to_string());
            let _ = writeln!(text, "| {} | {entries} | {} | {} |", map.name, map.limit, Mib(map.memory));
        }
        text
    }
}

/// Writes what a run has shown into the page.
///
/// # Errors
/// If the page cannot be read or written, or has no place for it.
pub fn write(run: &Run) -> io::Result<()> {
    written_page::write("soak.md", [("soak", run.tables())])
}
