//! The table of kernels and checks.

use std::fmt;

use super::results::{HOST, Outcome, Results};

/// A page of the documentation that holds a table, and the text above it.
pub struct Page {
    pub file: &'static str,
    preamble: &'static str,
}

/// Of the kernels of every run.
pub const USUAL: Page = Page {
    file: "docs/kernels.md",
    preamble: "\
# Kernels

The eBPF programs of hostprobe in real kernels. Each row is an event that the checks cause in each kernel. They compare the
records of the programs with what the causing processes know. Every kernel loads the same checked-in object, and all must
report the same, which is the second column. The machines have cgroup v2 as the only hierarchy.

`cargo xtask vm` runs the checks (`tests/src/bin/conformance/`) in Debian's kernels, emulated, and on the host. It writes
this page. [kernels-arm64.md](kernels-arm64.md) is the same for an arm64 kernel.

",
};

/// Of the kernel of another machine.
pub const ARM64: Page = Page {
    file: "docs/kernels-arm64.md",
    preamble: "\
# An arm64 kernel

The checks of [kernels.md](kernels.md) in Debian's kernel for arm64, on an emulated processor (Cortex-A72, two of them).
`cargo xtask vm arm64` builds their program for aarch64, runs it there, and writes this page.

",
};

pub struct Table {
    rows: Vec<Vec<String>>,
    /// Below the table: checks that were absent or not tried.
    notes: Vec<String>,
    /// Below the table: failures.
    faults: Vec<String>,
}

impl Table {
    /// Lays the results of all kernels side by side.
    pub fn of(columns: &[Results]) -> Self {
        let mut table = Self { rows: Vec::new(), notes: Vec::new(), faults: Vec::new() };
        let mut head = vec!["event".to_owned(), "report".to_owned()];
        for column in columns {
            let suffix = if column.kernel == HOST { " (host)" } else { "" };
            head.push(format!("{}{suffix}", column.release()));
            table.faults.extend(column.faults.iter().map(|fault| format!("{}: {fault}", column.release())));
        }
        table.rows.push(head);
        // A kernel whose checks ended early lacks rows that others have.
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
        // All kernels must report the same as the first.
        let report = checks().flatten().find(|it| it.outcome == Outcome::Passed).map(|it| it.detail.as_str());
        let mut row = vec![name.to_owned(), report.unwrap_or_default().to_owned()];
        for (column, check) in columns.iter().zip(checks()) {
            let place = format!("{name}, {}", column.release());
            let Some(check) = check else {
                row.push("MISSING".to_owned());
                self.faults.push(format!("{place}: the checks did not reach it"));
                continue;
            };
            let differs = check.outcome == Outcome::Passed && Some(check.detail.as_str()) != report;
            let word = match check.outcome {
                Outcome::Passed if differs => "DIFFERS",
                Outcome::Passed => "ok",
                Outcome::Absent => "absent",
                Outcome::NotTried => "not tried",
                Outcome::Failed => "FAILED",
            };
            row.push(word.to_owned());
            let line = format!("{place}: {word}: {}", check.detail);
            match check.outcome {
                Outcome::Absent | Outcome::NotTried => self.notes.push(line),
                Outcome::Passed if !differs => {}
                Outcome::Passed | Outcome::Failed => self.faults.push(line),
            }
        }
        self.rows.push(row);
    }

    pub fn passed(&self) -> bool {
        self.faults.is_empty() && self.rows.len() > 1
    }

    pub fn page(&self, page: &Page) -> String {
        format!("{}{self}", page.preamble)
    }
}

impl fmt::Display for Table {
    /// Markdown with aligned columns.
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
        for (title, lines) in [("Not everywhere:", &self.notes), ("Failed:", &self.faults)] {
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
        Results::of(kernel, Ok(Run { lines, faults: Vec::new() }))
    }

    #[test]
    fn names_a_kernel_that_reports_something_else_or_nothing() {
        let a = r#"{"check":"a","outcome":"ok","detail":"1"}"#;
        let old = column("5", &[a, r#"{"check":"b","outcome":"absent","detail":"no such thing"}"#]);
        let same = column("6", &[r#"{"kernel":"6.0"}"#, a, r#"{"check":"b","outcome":"ok","detail":"2"}"#]);
        let table = Table::of(&[old, same]);
        assert!(table.passed(), "{table}");
        assert!(table.to_string().contains("| b     | 2      | absent | ok  |"), "{table}");
        assert!(table.to_string().contains("- b, 5: absent: no such thing"), "{table}");

        let first = column("6", &[a, r#"{"check":"b","outcome":"failed","detail":"no record"}"#]);
        let other = column("7", &[r#"{"check":"a","outcome":"ok","detail":"3"}"#, "Segmentation fault"]);
        let table = Table::of(&[first, other]);
        assert!(!table.passed());
        for fault in [
            "a, 7: DIFFERS: 3",
            "b, 6: FAILED: no record",
            "b, 7: the checks did not reach it",
            "7: not a result of a check: Segmentation fault",
        ] {
            assert!(table.faults.iter().any(|it| it == fault), "{fault}: {:?}", table.faults);
        }
        assert!(!Table::of(&[column("7", &[])]).passed());
    }
}
