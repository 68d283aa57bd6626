//! The table of kernels and checks.

use std::fmt;

use super::results::{HOST, Outcome, Results};

/// What stands above the table in the documentation.
const PREAMBLE: &str = "\
# Kernels

The kernel side of hostprobe, held against real kernels. Each row is caused for real in each kernel, and what the programs
tell of it is compared with what the causing processes know for themselves. All kernels are given the one checked-in
object, and all must tell the same, which is the second column. The machines have cgroup v2 as the only hierarchy.

`cargo xtask vm` runs the checks (`tests/src/bin/conformance/`) in Debian's kernels, emulated, and on the host, and writes
this page.

";

/// The table, and what is to be said below it.
pub struct Table {
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
    faults: Vec<String>,
}

impl Table {
    /// Lays the results of all kernels side by side.
    pub fn of(columns: &[Results]) -> Self {
        let mut table = Self { rows: Vec::new(), notes: Vec::new(), faults: Vec::new() };
        let mut head = vec!["what happens".to_owned(), "what is told".to_owned()];
        for column in columns {
            let here = if column.kernel == HOST { " (host)" } else { "" };
            head.push(format!("{}{here}", column.release()));
            let complaints = column.complaints.iter();
            table.faults.extend(complaints.map(|complaint| format!("{}: {complaint}", column.release())));
        }
        table.rows.push(head);
        // A kernel that broke off early lacks rows that others have.
        let mut names: Vec<&str> = Vec::new();
        for check in columns.iter().flat_map(|column| &column.checks) {
            if !names.contains(&check.name.as_str()) {
                names.push(&check.name);
            }
        }
        for name in names {
            table.add(name, columns);
        }
        table
    }

    fn add(&mut self, name: &str, columns: &[Results]) {
        let checks = || columns.iter().map(|column| column.check(name));
        // What the first says all must say.
        let told = checks().flatten().find(|it| it.outcome == Outcome::Kept).map(|it| it.detail.as_str());
        let mut row = vec![name.to_owned(), told.unwrap_or_default().to_owned()];
        for (column, check) in columns.iter().zip(checks()) {
            let place = format!("{name}, {}", column.release());
            let Some(check) = check else {
                row.push("MISSING".to_owned());
                self.faults.push(format!("{place}: the checks did not come to it"));
                continue;
            };
            let differs = check.outcome == Outcome::Kept && Some(check.detail.as_str()) != told;
            let word = match check.outcome {
                Outcome::Kept if differs => "DIFFERS",
                Outcome::Kept => "ok",
                Outcome::Absent => "absent",
                Outcome::NotTried => "not tried",
                Outcome::Broken => "BROKEN",
            };
            row.push(word.to_owned());
            let said = format!("{place}: {word}: {}", check.detail);
            match check.outcome {
                Outcome::Absent | Outcome::NotTried => self.notes.push(said),
                Outcome::Kept if !differs => {}
                Outcome::Kept | Outcome::Broken => self.faults.push(said),
            }
        }
        self.rows.push(row);
    }

    /// Whether every cell is as promised.
    pub fn is_good(&self) -> bool {
        self.faults.is_empty() && self.rows.len() > 1
    }

    /// The page of the documentation.
    pub fn page(&self) -> String {
        format!("{PREAMBLE}{self}")
    }
}

impl fmt::Display for Table {
    /// As Markdown that can be read as it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |at: usize| self.rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..self.rows[0].len()).map(width).collect();
        for (number, row) in self.rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "| {cell:width$} ")?;
            }
            writeln!(f, "|")?;
            if number == 0 {
                widths.iter().try_for_each(|width| write!(f, "|{}", "-".repeat(width + 2)))?;
                writeln!(f, "|")?;
            }
        }
        for (title, lines) in [("Not everywhere:", &self.notes), ("Not as promised:", &self.faults)] {
            if !lines.is_empty() {
                writeln!(f, "\n{title}\n")?;
                lines.iter().try_for_each(|line| writeln!(f, "- {line}"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::results::Run, *};

    fn column(kernel: &str, lines: &[&str]) -> Results {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        Results::of(kernel, Ok(Run { lines, complaints: Vec::new() }))
    }

    #[test]
    fn a_kernel_that_tells_something_else_or_nothing_is_named() {
        let a = r#"{"check":"a","outcome":"ok","detail":"1"}"#;
        let old = column("5", &[a, r#"{"check":"b","outcome":"absent","detail":"no such thing"}"#]);
        let same = column("6", &[r#"{"kernel":"6.0"}"#, a, r#"{"check":"b","outcome":"ok","detail":"2"}"#]);
        let table = Table::of(&[old, same]);
        assert!(table.is_good(), "{table}");
        assert!(table.to_string().contains("| b            | 2            | absent | ok  |"), "{table}");
        assert!(table.to_string().contains("- b, 5: absent: no such thing"), "{table}");

        let first = column("6", &[a, r#"{"check":"b","outcome":"failed","detail":"no record"}"#]);
        let other = column("7", &[r#"{"check":"a","outcome":"ok","detail":"3"}"#, "Segmentation fault"]);
        let table = Table::of(&[first, other]);
        assert!(!table.is_good());
        for fault in [
            "a, 7: DIFFERS: 3",
            "b, 6: BROKEN: no record",
            "b, 7: the checks did not come to it",
            "7: not a line of the checks: Segmentation fault",
        ] {
            assert!(table.faults.iter().any(|it| it == fault), "{fault}: {:?}", table.faults);
        }
        assert!(!Table::of(&[column("7", &[])]).is_good());
    }
}
