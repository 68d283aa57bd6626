//! The tables in `docs/survival.md`.

use std::io;

use super::{Findings, services};
use crate::written_page;

impl services::Findings {
    /// What the run has shown, as a Markdown table.
    pub fn table(&self) -> String {
        of_rows(&[
            ("`kill -9` of the daemon", self.kills.to_string()),
            ("restarts of services that were well", "0".to_owned()),
            ("requests to these services meanwhile", self.requests.to_string()),
            ("requests that failed", self.failed.to_string()),
            ("ends of a service while no daemon ran", self.deaths.to_string()),
            ("of these found and restarted by the next daemon", self.incidents.to_string()),
        ])
    }
}

impl Findings {
    /// What the run has shown, as a Markdown table.
    pub fn table(&self) -> String {
        let mut rows = vec![
            ("`kill -9` of the daemon", self.kills.to_string()),
            ("faults of services meanwhile", self.faults.to_string()),
            ("incidents", self.opened.to_string()),
            ("of these taken up by a later run", self.taken_up.to_string()),
            ("restarts", self.restarts.to_string()),
        ];
        let mut told = Vec::new();
        for (receiver, (count, again)) in &self.delivered {
            told.push(format!("{receiver}: {count}, of which {again} again"));
        }
        rows.push(("messages delivered", told.join("; ")));
        rows.push(("incidents that a receiver was not told of, or not of their end", "0".to_owned()));
        rows.push(("restarts beyond a budget, over all lives", "0".to_owned()));
        of_rows(&rows)
    }
}

fn of_rows(rows: &[(&str, String)]) -> String {
    let mut table = "| | |\n|---|---|\n".to_owned();
    for (what, count) in rows {
        table.push_str(&format!("| {what} | {count} |\n"));
    }
    table
}

/// Writes the tables of two runs in which nothing was wrong.
pub fn write(alerts: &Findings, services: &services::Findings) -> io::Result<()> {
    written_page::write("survival.md", [("kills", alerts.table()), ("services", services.table())])
}
