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

/// Something found in a configuration's text, by its byte offset.
pub(super) type Finding = (usize, String);

/// Errors and warnings as they are found, before they are given their places.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
}

impl Findings {
    /// Notes an error at a place in the text.
    pub(super) fn error(&mut self, at: std::ops::Range<usize>, message: impl Into<String>) {
        self.errors.push((at.start, message.into()));
    }

    /// Notes a warning at a place in the text.
    pub(super) fn warn(&mut self, at: std::ops::Range<usize>, message: impl Into<String>) {
        self.warnings.push((at.start, message.into()));
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

/// Gives findings their file, line and column, in the order of the text.
pub(super) fn locate(file: &Path, text: &str, mut findings: Vec<Finding>) -> Vec<ConfigError> {
    findings.sort();
    findings.dedup();
    let with_place = |(offset, message)| ConfigError {
        file: file.to_owned(),
        place: Some(line_and_column(text, offset)),
        message,
    };
    findings.into_iter().map(with_place).collect()
}

/// The same, as the reason to refuse the file.
pub(super) fn refuse(file: &Path, text: &str, errors: Vec<Finding>) -> ConfigErrors {
    ConfigErrors { errors: locate(file, text, errors) }
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
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

    #[test]
    fn errors_print_in_the_order_of_the_file() {
        let found = vec![(2, "second".to_owned()), (0, "first".to_owned())];
        let errors = refuse(Path::new("/etc/x.toml"), "a\nb", found);
        assert_eq!(errors.to_string(), "/etc/x.toml:1:1: first\n/etc/x.toml:2:1: second");
    }
}
