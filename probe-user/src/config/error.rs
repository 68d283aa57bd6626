//! What is wrong with a configuration, each error with its place: `FILE:LINE:COLUMN: …; expected …`.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Everything that is wrong with a configuration file, sorted by place; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
}

/// One thing that is wrong with a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Line and column, both from 1, the column in characters; None where it is the file as a whole.
    pub place: Option<(usize, usize)>,
    /// What is wrong and what was expected; never holds a secret.
    pub message: String,
}

impl ConfigErrors {
    /// The errors, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.errors.iter()
    }

    /// These errors, in their order.
    pub(super) fn of(errors: Vec<ConfigError>) -> Self {
        Self { errors }
    }

    /// One error about the file as a whole.
    pub(super) fn whole(file: &Path, message: String) -> Self {
        Self { errors: vec![ConfigError { file: file.to_owned(), place: None, message }] }
    }
}

impl fmt::Display for ConfigErrors {
    /// One line an error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.message)
    }
}

/// Something found in a configuration's text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    /// The byte offset.
    pub(super) at: usize,
    pub(super) message: String,
    /// The other place that it is about.
    pub(super) other: Option<usize>,
}

impl Finding {
    pub(super) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), other: None }
    }
}

/// Errors and warnings as they are found, before they are given their places.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
    /// Probes whose timeout is longer than their interval. All of a file may have it from its defaults.
    pub(super) long_timeouts: Vec<Finding>,
}

/// The most warnings of one kind.
const ALIKE_MAX: usize = 3;

impl Findings {
    /// Notes an error at a place in the text.
    pub(super) fn error(&mut self, at: std::ops::Range<usize>, message: impl Into<String>) {
        self.errors.push(Finding::new(at.start, message));
    }

    /// Notes an error that two places make.
    pub(super) fn error_of_two(
        &mut self,
        at: std::ops::Range<usize>,
        other: usize,
        message: impl Into<String>,
    ) {
        self.errors.push(Finding { other: Some(other), ..Finding::new(at.start, message) });
    }

    /// All warnings. Of many that are alike it has the first ones, the last of which counts the rest.
    pub(super) fn take_warnings(&mut self) -> Vec<Finding> {
        let mut warnings = std::mem::take(&mut self.warnings);
        let mut alike = std::mem::take(&mut self.long_timeouts);
        alike.sort();
        alike.dedup();
        let further = alike.len().saturating_sub(ALIKE_MAX);
        alike.truncate(ALIKE_MAX);
        if let Some(last) = alike.last_mut().filter(|_| further > 0) {
            let plural = if further == 1 { "probe" } else { "probes" };
            last.message.push_str(&format!("; so it is with {further} further {plural}"));
        }
        warnings.extend(alike);
        warnings
    }

    /// Notes a warning at a place in the text.
    pub(super) fn warn(&mut self, at: std::ops::Range<usize>, message: impl Into<String>) {
        self.warnings.push(Finding::new(at.start, message));
    }
}

/// Keys as a sentence lists them: "`a`, `b` and `c`".
pub(super) fn listed<'a>(keys: impl IntoIterator<Item = &'a str>, conjunction: &str) -> String {
    let mut keys: Vec<String> = keys.into_iter().map(|key| format!("`{key}`")).collect();
    match keys.pop() {
        Some(last) if keys.is_empty() => last,
        Some(last) => format!("{} {conjunction} {last}", keys.join(", ")),
        None => String::new(),
    }
}

/// Line and column, both from 1, of an offset.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    // Counting the bytes that begin a character works wherever the offset points to.
    let column = before[start..].iter().filter(|&&byte| byte & 0xc0 != 0x80).count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_counts_characters() {
        assert_eq!(line_and_column("", 0), (1, 1));
        assert_eq!(line_and_column("a\nä = 1", "a\nä = ".len()), (2, 5));
        assert_eq!(line_and_column("a\n", 2), (2, 1));
        assert_eq!(line_and_column("a", 99), (1, 2));
    }
}
