//! The matrix as a table for a person.

use std::fmt::{self, Display};

use super::{Measured, Outcome, Row};

/// The head of the table.
pub fn heading() -> String {
    format!(
        "{:<4} {:<44} {:<28} {:<28} {:<30} {:>9} {:>9} {:>5}  {}",
        "#", "fault", "expected verdict", "reached verdict", "action", "found ms", "healed ms", "false", "ok"
    )
}

/// A row's line; None while it is being run.
pub fn line(row: &Row, outcome: Option<&Outcome>) -> String {
    let none = Measured::default();
    let (measured, ok) = match outcome {
        None => (&none, "…"),
        Some(Outcome::NotRun) => (&none, "not run"),
        Some(Outcome::Run(measured)) => (measured, if measured.wrong.is_empty() { "yes" } else { "NO" }),
    };
    let millis = |time: Option<f64>| time.map_or_else(|| "–".to_owned(), |time| format!("{time:.1}"));
    format!(
        "{:<4} {:<44} {:<28} {:<28} {:<30} {:>9} {:>9} {:>5}  {ok}",
        row.number,
        row.fault,
        row.verdicts.join(", "),
        measured.verdicts.join(", "),
        row.action,
        millis(measured.detected_ms),
        millis(measured.healthy_ms),
        measured.false_actions,
    )
}

/// A matrix that was run.
#[derive(Clone, Debug, Default)]
pub struct Report(pub Vec<(Row, Outcome)>);

impl Report {
    /// The rows that are wrong, each with what is.
    pub fn wrong(&self) -> Vec<String> {
        let wrong = self.0.iter().filter(|(_, outcome)| !outcome.wrong().is_empty());
        wrong
            .map(|(row, outcome)| format!("{} ({}): {}", row.number, row.fault, outcome.wrong().join("; ")))
            .collect()
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", heading())?;
        for (row, outcome) in &self.0 {
            writeln!(f, "{}", line(row, Some(outcome)))?;
        }
        Ok(())
    }
}
