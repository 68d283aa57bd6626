//! `cargo xtask test`: the parts the tests need, then the tests, then one summary.

pub mod packages;

use std::{
    io::{BufRead, BufReader},
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result};

use crate::cargo::{announce, command, insist};

/// What follows `cargo xtask test`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Handed to `cargo test` instead of `--workspace`, such as `-p integration-tests --test harness`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Prepares and runs the tests; fails if one of them does.
pub fn test(arguments: &Arguments) -> Result<ExitCode> {
    packages::prepare()?;
    // The tests start these programs, which `cargo test` alone would not build.
    insist(&mut command(&["build", "-p", "hostprobe", "-p", "hostprobe-tests", "--bins"]))?;

    let mut tests = command(&["test", "--no-fail-fast"]);
    if arguments.arguments.is_empty() {
        tests.arg("--workspace");
    }
    tests.args(&arguments.arguments).stdout(Stdio::piped());
    announce(&tests);
    let mut running = tests.spawn().context("cannot run cargo test")?;
    let mut summary = Summary::default();
    if let Some(output) = running.stdout.take() {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            summary.add(&line);
        }
    }
    let status = running.wait().context("cannot wait for cargo test")?;
    println!("\n{summary}");
    // A test program that does not compile fails without a failed test.
    Ok(if status.success() && summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What all test programs together said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    passed: u32,
    failed: u32,
    ignored: u32,
    failures: Vec<String>,
}

impl Summary {
    fn add(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
        }
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        let counts = counts.split_once(". ").map_or("", |(_, counts)| counts);
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else { continue };
            let number = number.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for name in &self.failures {
            writeln!(f, "failed: {name}")?;
        }
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_of_all_programs_add_up() {
        let mut summary = Summary::default();
        for line in [
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.00s",
            "test result: ok. 5 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ] {
            summary.add(line);
        }
        assert_eq!(summary.to_string(), "failed: a::c\n6 passed, 1 failed, 2 skipped");
    }
}
