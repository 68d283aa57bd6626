//! The tables in `docs/quiet.md`.

use std::io;

use super::{
    Counts, FAULTS,
    tools::{ROUTE, RULES},
};
use crate::written_page;

impl Counts {
    /// The messages about each fault, and those of a week, as a Markdown table.
    pub fn table(&self) -> String {
        let mut table =
            "| fault | a week | hostprobe | Monit | Alertmanager |\n|---|---:|---:|---:|---:|\n".to_owned();
        let mut week = [0; 3];
        for fault in FAULTS {
            let each = self.of(fault);
            let [hostprobe, monit, alertmanager] = each;
            table +=
                &format!("| {} | {} | {hostprobe} | {monit} | {alertmanager} |\n", fault.what, fault.a_week);
            for (sum, count) in week.iter_mut().zip(each) {
                *sum += count * fault.a_week;
            }
        }
        let [hostprobe, monit, alertmanager] = week;
        let faults: usize = FAULTS.iter().map(|fault| fault.a_week).sum();
        table += &format!(
            "| **the week: messages** | {faults} | **{hostprobe}** | **{monit}** | **{alertmanager}** |\n"
        );
        table
    }
}

/// Writes what a run has counted.
pub fn write(counts: &Counts) -> io::Result<()> {
    let rules = format!("```yaml\n{RULES}```\n\n```yaml\nroute: {{ {ROUTE} }}\n```\n");
    written_page::write("quiet.md", [("messages", counts.table()), ("rules", rules)])
}
