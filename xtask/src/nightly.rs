//! The nightly compiler: it builds `core` for BPF, and instruments code for the fuzzers.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cargo::root;

/// The version is fixed, because another one may write other bytes of the eBPF object.
pub const RUST: &str = "nightly-2026-05-20";

/// Installs the compiler if it is missing, or fails with the command that does.
pub fn ensure() -> Result<()> {
    if succeeds(Command::new("rustup").args(["run", RUST, "rustc", "--version"])) {
        return Ok(());
    }
    run(Command::new("rustup").args(["toolchain", "install", RUST, "--profile", "minimal"]))
        .with_context(|| format!("{RUST}: missing; run `rustup toolchain install {RUST}`"))
}

/// A command of the nightly toolchain, in the workspace.
pub fn command(words: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", RUST]).args(words).current_dir(root());
    // The cargo that runs this program sets them for its own toolchain.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC").env_remove("CARGO");
    command
}

pub fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|it| it.status.success())
}

/// What a command prints, without the space around it.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

pub fn run(command: &mut Command) -> Result<()> {
    eprintln!("running {command:?}");
    let status = command.status().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    ensure!(status.success(), "{command:?} failed ({status})");
    Ok(())
}
