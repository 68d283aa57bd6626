//! The matrix as a table for a person.

use std::fmt::{self, Display};

use super::row::{Measured, Outcome, Row};

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
    format!(
        "{:<4} {:<44} {:<28} {:<28} {:<30} {:>9} {:>9} {:>5}  {ok}",
        row.number,
        row.fault,
        words(row.verdicts),
        words(&measured.verdicts),
        row.action,
        millis(measured.detected_ms),
        millis(measured.healthy_ms),
        measured.false_actions,
    )
}

fn words<T: AsRef<str>>(verdicts: &[T]) -> String {
    let verdicts: Vec<&str> = verdicts.iter().map(AsRef::as_ref).collect();
    if verdicts.is_empty() { "–".to_owned() } else { verdicts.join(", ") }
}

fn millis(time: Option<f64>) -> String {
    time.map_or_else(|| "–".to_owned(), |time| format!("{time:.1}"))
}

/// The same faults with hooks and without, side by side, as a Markdown table.
#[derive(Clone, Copy, Debug)]
pub struct SideBySide<'a> {
    /// With every hook.
    pub hooks: &'a Report,
    /// With the fallbacks alone.
    pub fallback: &'a Report,
}

impl Display for SideBySide<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| # | fault | action | | verdict | sure | restarts | found ms | healed ms | right |")?;
        writeln!(f, "|---|---|---|---|---|---:|---:|---:|---:|---|")?;
        for ((row, hooks), (_, fallback)) in self.hooks.0.iter().zip(&self.fallback.0) {
            let Row { number, fault, action, .. } = row;
            let heads = [format!("{number} | {fault} | {action}"), " | | ".to_owned()];
            for ((head, source), outcome) in heads.iter().zip(["hooks", "fallback"]).zip([hooks, fallback]) {
                let Outcome::Run(measured) = outcome else {
                    writeln!(f, "| {head} | {source} | not run | | | | | |")?;
                    continue;
                };
                let sure = measured.confidence.map_or_else(|| "–".to_owned(), |sure| format!("{sure:.2}"));
                writeln!(
                    f,
                    "| {head} | {source} | {} | {sure} | {} | {} | {} | {} |",
                    words(&measured.verdicts),
                    measured.restarts,
                    millis(measured.detected_ms),
                    millis(measured.healthy_ms),
                    if measured.wrong.is_empty() { "yes" } else { "NO" }
                )?;
            }
        }
        Ok(())
    }
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
