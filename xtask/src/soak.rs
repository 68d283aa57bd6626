//! `cargo xtask soak`: a daemon under processes that come and go, for a quarter of an hour.

use std::{os::unix::process::CommandExt, process::ExitCode};

use anyhow::{Error, Result};

use crate::cargo::{self, insist};

/// What follows `cargo xtask soak`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How long
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
}

/// Builds everything as it is shipped, and becomes the soak.
pub fn soak(arguments: &Arguments) -> Result<ExitCode> {
    let build = ["build", "--release", "-p", "hostprobe", "-p", "hostprobe-tests", "--bins"];
    insist(&mut cargo::command(&build))?;
    let minutes = arguments.minutes.to_string();
    let run = [
        "run",
        "--quiet",
        "--release",
        "-p",
        "hostprobe-tests",
        "--bin",
        "soak",
        "--",
        "--minutes",
        &minutes,
    ];
    Err(Error::from(cargo::command(&run).exec()).context("cannot run cargo"))
}
