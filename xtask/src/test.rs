//! `cargo xtask test`: installs what the tests need, runs them, and prints one summary.

pub mod packages;
mod programs;
mod streams;
mod summary;

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Result, ensure};
use rustix::process::geteuid;

use self::{streams::Streams, summary::Summary};
use crate::{
    cargo::{command, run},
    dist::{self, machine::Machine},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Arguments of `cargo test` in place of `--workspace`, such as `-p integration-tests --test harness`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Asks libtest to print what passed tests have printed.
const SHOW_OUTPUT: &str = "--show-output";

/// The test program that builds the packages of a release.
const PACKAGES_TEST: &str = "packages";

/// Builds the program in these packages before any test begins: beside a compiler, tests would find the host too busy.
fn build_packaged_program() -> Result<()> {
    let here = Machine::ALL.into_iter().find(|machine| machine.is_here());
    // Without root or the compiler, the test is skipped.
    let is_skipped = !geteuid().is_root() || !Path::new("/usr/bin/musl-gcc").exists();
    if let Some(here) = here.filter(|_| !is_skipped) {
        dist::build::program(here, "dev")?;
    }
    Ok(())
}

/// Runs the tests. Fails if one of them does, or with CI=true if one of them is skipped.
pub fn test(arguments: &Arguments) -> Result<ExitCode> {
    let arguments = &arguments.arguments;
    let captures = !arguments.iter().any(|it| it == "--nocapture" || it == "--no-capture");
    ensure!(captures, "--nocapture hides which tests are skipped; use {SHOW_OUTPUT}, or `cargo test` itself");
    packages::prepare()?;
    // The tests start these programs, which `cargo test` alone would not build.
    run(&mut command(&["build", "-p", "hostprobe", "-p", "hostprobe-tests", "--bins"]))?;

    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    let (of_cargo, of_libtest) = arguments.split_at(end);
    let show_all = arguments.iter().any(|it| it == SHOW_OUTPUT);
    let everything = ["--workspace".to_owned()];
    let programs = programs::build(if of_cargo.is_empty() { &everything } else { of_cargo })?;
    let mut arguments = vec![SHOW_OUTPUT.to_owned()];
    arguments.extend(of_libtest.iter().skip(1).filter(|argument| *argument != SHOW_OUTPUT).cloned());
    if programs.iter().any(|program| program.name == PACKAGES_TEST) {
        build_packaged_program()?;
    }

    let streams = Streams::prepare()?;
    let mut summary = Summary::default();
    let with = |test: &mut Command| {
        test.env(Streams::VARIABLE, &streams.folder).env_remove("RUST_TEST_NOCAPTURE");
    };
    let succeeded = programs::run(programs, &arguments, with, |output| {
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            if summary.add(line) || show_all {
                println!("{line}");
            }
        }
    })?;
    let too_few = packages::in_ci() && summary.skipped() > 0;
    if too_few {
        eprintln!("CI=true: no test may be skipped");
    }
    let streams_are_good = streams.check()?;
    println!("\n{summary}");
    // A test program that crashes fails without a failed test.
    let passed = succeeded && summary.failed() == 0 && !too_few && streams_are_good;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
