//! `cargo xtask run`: builds the daemon, optimised and without the long link of a release, and runs it.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::{Error, Result};

use crate::cargo;

#[derive(clap::Args)]
pub struct Arguments {
    /// Arguments of `hostprobe run`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Becomes the daemon, so that signals reach it and its exit status is this command's.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let manifest = cargo::root().join("Cargo.toml");
    let mut command = Command::new(cargo::command(&[]).get_program());
    // A first build takes minutes, so cargo says what it does. The current folder stays, because the path of a
    // configuration file may be relative to it.
    command.args(["run", "--profile", "quick", "-p", "hostprobe", "--bin", "hostprobe", "--manifest-path"]);
    command.arg(manifest).args(["--", "run"]).args(&arguments.arguments);
    Err(Error::from(command.exec()).context("cannot run cargo"))
}
