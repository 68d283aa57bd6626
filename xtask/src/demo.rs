//! `cargo xtask demo`: real faults, and what hostprobe makes of them, for a person.

use std::{os::unix::process::CommandExt, process::ExitCode};

use anyhow::{Error, Result};

use crate::cargo::{self, insist};

/// Builds everything as it is shipped, and becomes the demonstration.
pub fn demo() -> Result<ExitCode> {
    let build = ["build", "--release", "-p", "hostprobe", "-p", "hostprobe-tests", "--bins"];
    insist(&mut cargo::command(&build))?;
    let run = ["run", "--quiet", "--release", "-p", "hostprobe-tests", "--bin", "demo"];
    Err(Error::from(cargo::command(&run).exec()).context("cannot run cargo"))
}
