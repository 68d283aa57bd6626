//! Adds up what the test programs print.
//!
//! A test that cannot run on this host prints `skipped: REASON` and returns. libtest counts it as passed. With
//! `--show-output`, libtest also prints what passed tests have printed, below the name of each, so that a skipped one can
//! be told from a passed one by whatever thread it printed the line.

use std::{collections::BTreeMap, fmt};

/// The part of a test program's output that a line belongs to.
#[derive(Debug, Default, PartialEq, Eq)]
enum Section {
    /// One line a test, and the counts.
    #[default]
    Outcomes,
    /// What the passed tests printed; the name is that of the test.
    Output(String),
    /// The names of the passed tests.
    PassedNames,
    /// What the failed tests printed.
    FailedOutput,
}

/// What all test programs have printed so far.
#[derive(Debug, Default)]
pub struct Summary {
    section: Section,
    /// The number of the test program, as two of them may have tests of one name.
    program: usize,
    /// As libtest counts: skipped tests are among them.
    passed: usize,
    failed: usize,
    failures: Vec<String>,
    skipped: BTreeMap<(usize, String), Vec<String>>,
}

impl Summary {
    /// Takes in a line. Returns false if the line is there only because of `--show-output`.
    pub fn add(&mut self, line: &str) -> bool {
        match &mut self.section {
            Section::Outcomes => self.add_outcome(line),
            Section::Output(test) => {
                let heading = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
                if line == "successes:" {
                    self.section = Section::PassedNames;
                } else if let Some(name) = heading {
                    name.clone_into(test);
                } else if let Some(reason) = skip_reason(line, test) {
                    let reasons = self.skipped.entry((self.program, test.clone())).or_default();
                    if !reasons.iter().any(|known| known == reason) {
                        reasons.push(reason.to_owned());
                    }
                }
                return false;
            }
            Section::PassedNames => {
                let at_end = line == "failures:" || line.starts_with("test result: ");
                if !at_end {
                    return false;
                }
                self.add_outcome(line);
            }
            Section::FailedOutput => {
                if line == "failures:" {
                    self.section = Section::Outcomes;
                }
            }
        }
        !matches!(self.section, Section::Output(_))
    }

    fn add_outcome(&mut self, line: &str) {
        if line == "successes:" {
            self.section = Section::Output(String::new());
        } else if line == "failures:" {
            self.section = Section::FailedOutput;
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            self.add_counts(counts);
            self.program += 1;
            self.section = Section::Outcomes;
        } else if let Some((name, outcome)) =
            line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
        {
            if outcome == "FAILED" {
                self.failures.push(name.to_owned());
            } else if outcome.starts_with("ignored") {
                self.skipped.insert((self.program, name.to_owned()), vec![outcome.to_owned()]);
            }
        }
    }

    /// Adds such as `FAILED. 1 passed; 1 failed; 0 ignored; …`.
    fn add_counts(&mut self, counts: &str) {
        let counts = counts.split_once(". ").map_or("", |(_, counts)| counts);
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else { continue };
            let number: usize = number.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                // libtest does not count them as passed, but all of `skipped` is taken from those.
                "ignored" => self.passed += number,
                _ => {}
            }
        }
    }

    /// How many tests failed.
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// How many tests could not run on this host.
    pub fn skipped(&self) -> usize {
        self.skipped.len()
    }
}

/// Why a test was skipped, if a line that it printed says so: `skipped: REASON`, or `skipped NAME: REASON`.
fn skip_reason<'a>(line: &'a str, test: &str) -> Option<&'a str> {
    let (skipped, reason) = line.split_once(": ")?;
    let own_name = test.rsplit("::").next().unwrap_or(test);
    let is_skip = skipped == "skipped" || skipped.strip_prefix("skipped ") == Some(own_name);
    is_skip.then_some(reason)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((_, name), reasons) in &self.skipped {
            writeln!(f, "skipped: {name}: {}", reasons.join("; "))?;
        }
        for name in &self.failures {
            writeln!(f, "failed: {name}")?;
        }
        let passed = self.passed.saturating_sub(self.skipped.len());
        write!(f, "{passed} passed, {} failed, {} skipped", self.failed, self.skipped.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of some output, and the lines of it that are shown.
    fn sum(output: &str) -> (String, Vec<&str>) {
        let mut summary = Summary::default();
        let shown = output.lines().filter(|line| summary.add(line)).collect();
        (summary.to_string(), shown)
    }

    #[test]
    fn the_results_of_all_programs_add_up() {
        let (sum, _) = sum("\
test a::b ... ok
test a::c ... FAILED

failures:

---- a::c stdout ----
test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s


failures:
    a::c

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.00s
test d ... ignored, slow
test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
");
        assert_eq!(sum, "skipped: d: ignored, slow\nfailed: a::c\n6 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn a_test_that_says_that_it_is_skipped_did_not_pass() {
        let (sum, shown) = sum("\
test a ... ok
test b ... ok
test m::c ... ok
test e ... FAILED

successes:

---- a stdout ----
skipped: needs root
skipped: needs the package redis-server
skipped: needs root

---- b stdout ----
skipped 3 lines: all blank
test result: ok. 100 passed; 0 failed

---- m::c stdout ----
skipped c: needs python3


successes:
    a
    b
    m::c

failures:

---- e stdout ----
skipped: needs root

failures:
    e

test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
");
        assert_eq!(
            sum,
            "skipped: a: needs root; needs the package redis-server\nskipped: m::c: needs python3\n\
             failed: e\n1 passed, 1 failed, 2 skipped"
        );
        assert!(shown.contains(&"---- e stdout ----"), "{shown:?}");
        assert!(!shown.iter().any(|line| line.contains("python3") || *line == "    b"), "{shown:?}");
    }

    #[test]
    fn equal_names_in_two_programs_are_two_tests() {
        let program = "\
test a ... ok

successes:

---- a stdout ----
skipped: needs root


successes:
    a

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
        let (sum, _) = sum(&program.repeat(2));
        assert_eq!(sum, "skipped: a: needs root\nskipped: a: needs root\n0 passed, 0 failed, 2 skipped");
    }
}
