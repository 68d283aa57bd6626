//! What a run has shown, as tables.

use std::fmt::Write as _;

use super::Findings;
use crate::soak::Mib;

impl Findings {
    /// The counts of the run, as a Markdown table.
    pub fn table(&self) -> String {
        let mut rows: Vec<(String, String)> = vec![
            ("seed".to_owned(), self.seed.to_string()),
            ("minutes".to_owned(), format!("{:.1}", self.took.as_secs_f64() / 60.0)),
            ("rounds".to_owned(), self.rounds.to_string()),
            ("faults of services".to_owned(), self.faults.values().sum::<usize>().to_string()),
            ("`kill -9` of the daemon".to_owned(), self.kills.to_string()),
            ("upgrades of the daemon".to_owned(), self.upgrades.to_string()),
            ("incidents".to_owned(), self.incidents.to_string()),
            ("of these of services that waited for another one".to_owned(), self.held.to_string()),
            ("of these for the load of the host, without an action".to_owned(), self.of_load.to_string()),
            ("of these taken up by a later run".to_owned(), self.taken_up.to_string()),
            ("restarts".to_owned(), self.restarts.to_string()),
            ("records lost and counted".to_owned(), self.lost.to_string()),
        ];
        for (receiver, told) in &self.told {
            let text = format!(
                "{}, of which {} again; {} incidents by a summary",
                told.messages, told.again, told.by_summary
            );
            rows.push((format!("messages to the {receiver}"), text));
        }
        if let Some([first, middle, last, most]) = self.memory {
            let text = format!("{}, {}, {}; at most {}", Mib(first), Mib(middle), Mib(last), Mib(most));
            rows.push(("memory of the daemon: first, middle, last".to_owned(), text));
        }
        rows.push(("found wrong".to_owned(), self.wrong.len().to_string()));
        let mut table = "| | |\n|---|---|\n".to_owned();
        for (what, count) in rows {
            let _ = writeln!(table, "| {what} | {count} |");
        }
        table
    }

    /// How often each fault happened, and each of the surroundings.
    pub fn counts(&self) -> String {
        let faults = self.faults.iter().map(|(fault, count)| (fault.kind().name, count));
        let around = self.surroundings.iter().map(|(around, count)| (around.name(), count));
        let list = |counts: &mut dyn Iterator<Item = (&str, &usize)>| {
            counts.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        };
        let (mut faults, mut around) = (faults, around);
        format!("faults: {}\nrounds: {}\n", list(&mut faults), list(&mut around))
    }
}
