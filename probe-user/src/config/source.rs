//! The files of a configuration: the main one, and those of `conf.d` beside it. A place in one of them is a place in all
//! of their texts, one after the other.

use std::path::PathBuf;

use super::error::{ConfigError, ConfigErrors, Finding, line_and_column};

/// One file.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// Where its text begins among those of all files.
    start: usize,
}

impl Source {
    /// The text with blanks in place of the files before it, so that the parser's places are those among all files.
    pub(super) fn padded(&self) -> String {
        let mut padded = " ".repeat(self.start);
        padded.push_str(&self.text);
        padded
    }
}

/// All files, the main one first.
#[derive(Debug, Default)]
pub(super) struct Sources(Vec<Source>);

impl Sources {
    pub(super) fn add(&mut self, path: PathBuf, text: String) {
        // The byte between two files belongs to the end of the former.
        let start = self.0.last().map_or(0, |last| last.start + last.text.len() + 1);
        self.0.push(Source { path, text, start });
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn one(path: &std::path::Path, text: &str) -> Self {
        let mut sources = Self::default();
        sources.add(path.to_owned(), text.to_owned());
        sources
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Source> {
        self.0.iter()
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|source| source.text.len()).sum()
    }

    /// Gives findings their file, line and column, in the order of the texts.
    pub(super) fn locate(&self, mut findings: Vec<Finding>) -> Vec<ConfigError> {
        findings.sort();
        findings.dedup();
        findings.into_iter().map(|finding| self.place(finding)).collect()
    }

    /// The same, as the reason to refuse them.
    pub(super) fn refuse(&self, errors: Vec<Finding>) -> ConfigErrors {
        ConfigErrors::of(self.locate(errors))
    }

    fn place(&self, finding: Finding) -> ConfigError {
        let Some(source) = self.at(finding.at) else {
            return ConfigError { file: PathBuf::new(), place: None, message: finding.message };
        };
        let mut message = finding.message;
        // In one file the reader finds the other place by its name.
        if let Some((at, other)) = finding.other.and_then(|at| Some((at, self.at(at)?)))
            && other.start != source.start
        {
            let (line, column) = line_and_column(&other.text, at - other.start);
            message.push_str(&format!("; the other one is at {}:{line}:{column}", other.path.display()));
        }
        let place = Some(line_and_column(&source.text, finding.at - source.start));
        ConfigError { file: source.path.clone(), place, message }
    }

    fn at(&self, offset: usize) -> Option<&Source> {
        self.0.iter().rev().find(|source| source.start <= offset)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_place_is_in_its_file_also_at_the_end_of_it() {
        let mut sources = Sources::one(Path::new("/etc/x.toml"), "a\nb");
        sources.add(PathBuf::from("/etc/conf.d/y.toml"), "c\nd".to_owned());
        let found = vec![
            Finding::new(6, "fourth"),
            Finding::new(3, "end"),
            Finding { other: Some(2), ..Finding::new(4, "third") },
            Finding::new(2, "second"),
            Finding { other: Some(2), ..Finding::new(0, "first") },
        ];
        assert_eq!(
            sources.refuse(found).to_string(),
            "/etc/x.toml:1:1: first\n/etc/x.toml:2:1: second\n/etc/x.toml:2:2: end\n\
             /etc/conf.d/y.toml:1:1: third; the other one is at /etc/x.toml:2:1\n/etc/conf.d/y.toml:2:1: fourth"
        );
        assert_eq!(sources.iter().nth(1).unwrap().padded(), "    c\nd");
    }
}
