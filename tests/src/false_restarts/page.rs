//! The table in `docs/false-restarts.md`.

use std::{fmt::Write as _, io};

use super::{Findings, TOOLS, TROUBLES};
use crate::written_page;

impl Findings {
    /// The restarts of each tool, as a Markdown table.
    pub fn table(&self) -> String {
        let mut table = "| what happens to a service | times |".to_owned();
        for tool in TOOLS {
            let _ = write!(table, " {} |", tool.name());
        }
        table += "\n|---|---:|---:|---:|---:|\n";
        let rows = |table: &mut String, is_fault: bool| {
            for trouble in TROUBLES.iter().filter(|trouble| trouble.is_fault == is_fault) {
                let _ = write!(table, "| {} | {} |", trouble.what, self.passes);
                for tool in TOOLS {
                    let _ = write!(table, " {} |", self.of(trouble, tool));
                }
                table.push('\n');
            }
        };
        rows(&mut table, false);
        let wells = TROUBLES.iter().filter(|trouble| !trouble.is_fault).count();
        let _ = write!(table, "| **restarts of services that were well** | **{}** |", wells * self.passes);
        for tool in TOOLS {
            let _ = write!(table, " **{}** |", self.false_restarts(tool));
        }
        table.push('\n');
        rows(&mut table, true);
        let _ = writeln!(table, "\nThe run took {:.0} minutes.", self.took.as_secs_f64() / 60.0);
        table
    }
}

/// Writes the table of a run into the page.
///
/// # Errors
/// If the page cannot be read or written, or has no place for it.
pub fn write(findings: &Findings) -> io::Result<()> {
    written_page::write("false-restarts.md", [("restarts", findings.table())])
}
