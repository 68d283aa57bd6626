//! Runs cargo in the workspace: the same one that runs this program.

use std::{
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Error, Result, ensure};

pub fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

pub fn command(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    command
}

/// Announces a command, runs it, and fails if the command does.
pub fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "`{}` failed ({status})", words(command));
    Ok(())
}

/// Builds the daemon and the harness's programs in release mode, and becomes one of the programs. Returns only if that
/// fails.
pub fn become_program(name: &str, arguments: &[&str]) -> Result<std::convert::Infallible> {
    run(&mut command(&["build", "--release", "-p", "hostprobe", "-p", "hostprobe-tests", "--bins"]))?;
    let mut program = command(&["run", "--quiet", "--release", "-p", "hostprobe-tests", "--bin", name, "--"]);
    Err(Error::from(program.args(arguments).exec()).context("cannot run cargo"))
}

/// Prints the command that runs next.
pub fn announce(command: &Command) {
    eprintln!("+ {}", words(command));
}

fn words(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    let arguments = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" ")
}
