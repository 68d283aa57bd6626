//! `cargo xtask run`: the daemon as it is shipped.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::{Error, Result};

use crate::cargo;

/// What follows `cargo xtask run`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Handed to `hostprobe run`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Builds the daemon and becomes it, so that signals and exit status are its own.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let manifest = cargo::root().join("Cargo.toml");
    let mut command = Command::new(cargo::command(&[]).get_program());
    // The current folder is kept, because a configuration file is named from there.
    command.args(["run", "--quiet", "--release", "-p", "hostprobe", "--bin", "hostprobe", "--manifest-path"]);
    command.arg(manifest).args(["--", "run"]).args(&arguments.arguments);
    Err(Error::from(command.exec()).context("cannot run cargo"))
}
