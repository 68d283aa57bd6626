//! Calls of the cargo that runs this program, in the workspace.

use std::{
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Error, Result, ensure};

/// The workspace's folder.
pub fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// A cargo command to be run in the workspace.
pub fn command(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    command
}

/// Runs a command, having said which, and insists on its success.
pub fn insist(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "failed ({status}): {}", words(command));
    Ok(())
}

/// Builds the daemon and the programs beside it as they are shipped, and becomes one of those; returns only if that fails.
pub fn become_program(name: &str, arguments: &[&str]) -> Result<std::convert::Infallible> {
    insist(&mut command(&["build", "--release", "-p", "hostprobe", "-p", "hostprobe-tests", "--bins"]))?;
    let mut run = command(&["run", "--quiet", "--release", "-p", "hostprobe-tests", "--bin", name, "--"]);
    Err(Error::from(run.args(arguments).exec()).context("cannot run cargo"))
}

/// Says which command is run next.
pub fn announce(command: &Command) {
    eprintln!("+ {}", words(command));
}

fn words(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    let arguments = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" ")
}
