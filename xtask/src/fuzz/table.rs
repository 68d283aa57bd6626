//! The table of what the fuzzers did.

use super::run::Outcome;

const HEAD: [&str; 7] = ["fuzzer", "executions", "edges", "inputs", "slowest input", "memory", "outcome"];

pub fn of(outcomes: &[Outcome]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(outcomes.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 | 6 => format!("{cell:width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn row(outcome: &Outcome) -> [String; 7] {
    [
        outcome.target.clone(),
        outcome.executions.to_string(),
        outcome.edges.to_string(),
        outcome.inputs.to_string(),
        format!("{} s", outcome.slowest_seconds),
        format!("{} MiB", outcome.peak_mib),
        if outcome.finding.is_some() { "FOUND SOMETHING" } else { "nothing found" }.to_owned(),
    ]
}
