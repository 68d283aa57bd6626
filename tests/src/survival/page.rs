//! The table in `docs/survival.md`.

use std::{fs, io, path::PathBuf};

use super::Findings;

/// The table is between these lines.
const BEGIN: &str = "<!-- kills -->\n";
const END: &str = "<!-- end of kills -->";

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
        let mut table = "| | |\n|---|---|\n".to_owned();
        for (what, count) in rows {
            table.push_str(&format!("| {what} | {count} |\n"));
        }
        table
    }
}

/// Writes the table of a run in which nothing was wrong.
pub fn write(findings: &Findings) -> io::Result<()> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/survival.md");
    let page = fs::read_to_string(&path)?;
    let places = page.find(BEGIN).zip(page.find(END)).filter(|(begin, end)| begin < end);
    let Some((begin, end)) = places else {
        return Err(io::Error::other(format!("{}: it has no place for the table", path.display())));
    };
    let (before, after) = (&page[..begin + BEGIN.len()], &page[end..]);
    fs::write(&path, format!("{before}{}{after}", findings.table()))
}
