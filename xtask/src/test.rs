//! `cargo xtask test`: installs what the tests need, runs them, and prints one summary.

pub mod packages;
mod streams;
mod summary;

use std::{
    io::{BufRead, BufReader},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, ensure};

use self::{streams::Streams, summary::Summary};
use crate::cargo::{announce, command, run};

#[derive(clap::Args)]
pub struct Arguments {
    /// Arguments of `cargo test` in place of `--workspace`, such as `-p integration-tests --test harness`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Asks libtest to print what passed tests have printed.
const SHOW_OUTPUT: &str = "--show-output";

/// Runs the tests. Fails if one of them does, or with CI=true if one of them is skipped.
pub fn test(arguments: &Arguments) -> Result<ExitCode> {
    let arguments = &arguments.arguments;
    let captures = !arguments.iter().any(|it| it == "--nocapture" || it == "--no-capture");
    ensure!(captures, "--nocapture hides which tests are skipped; use {SHOW_OUTPUT}, or `cargo test` itself");
    packages::prepare()?;
    // The tests start these programs, which `cargo test` alone would not build.
    run(&mut command(&["build", "-p", "hostprobe", "-p", "hostprobe-tests", "--bins"]))?;

    let streams = Streams::prepare()?;
    let mut tests = cargo_test(arguments);
    tests.env(Streams::VARIABLE, &streams.folder);
    announce(&tests);
    let mut running = tests.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let show_all = arguments.iter().any(|it| it == SHOW_OUTPUT);
    let mut summary = Summary::default();
    if let Some(output) = running.stdout.take() {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            if summary.add(&line) || show_all {
                println!("{line}");
            }
        }
    }
    let status = running.wait().context("cannot wait for cargo test")?;
    let too_few = packages::in_ci() && summary.skipped() > 0;
    if too_few {
        eprintln!("CI=true: no test may be skipped");
    }
    let streams_are_good = streams.check()?;
    println!("\n{summary}");
    // If a test does not compile, cargo fails without a failed test.
    let passed = status.success() && summary.failed() == 0 && !too_few && streams_are_good;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The command that runs the tests so that their output shows which of them were skipped.
fn cargo_test(arguments: &[String]) -> Command {
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    let (of_cargo, of_libtest) = arguments.split_at(end);
    let mut tests = command(&["test", "--no-fail-fast"]);
    if of_cargo.is_empty() {
        tests.arg("--workspace");
    }
    tests.args(of_cargo).args(["--", SHOW_OUTPUT]);
    tests.args(of_libtest.iter().skip(1).filter(|argument| *argument != SHOW_OUTPUT));
    tests.env_remove("RUST_TEST_NOCAPTURE");
    tests
}
