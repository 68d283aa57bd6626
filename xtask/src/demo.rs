//! `cargo xtask demo`: real faults, and what hostprobe makes of them, for a person.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::{Error, Result};

use crate::cargo::{self, insist};

/// What follows `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Numbers of the fault matrix such as `1,9a`; a choice of them if not given
    rows: Option<String>,
}

/// Builds everything as it is shipped, and becomes the demonstration.
pub fn demo(arguments: &Arguments) -> Result<ExitCode> {
    let build = ["build", "--release", "-p", "hostprobe", "-p", "hostprobe-tests", "--bins"];
    insist(&mut cargo::command(&build))?;
    let run = ["run", "--quiet", "--release", "-p", "hostprobe-tests", "--bin", "demo", "--"];
    let mut command: Command = cargo::command(&run);
    command.args(&arguments.rows);
    Err(Error::from(command.exec()).context("cannot run cargo"))
}
