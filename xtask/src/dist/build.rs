//! Builds the static program for a machine.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{headers, machine::Machine};
use crate::{
    cargo::{announce, command, root},
    nightly::{self, output},
};

/// Builds it; returns its file.
pub fn program(machine: Machine, profile: &str) -> Result<PathBuf> {
    let triple = machine.triple();
    let mut build = command(&["build", "--locked", "-p", "hostprobe", "--bin", "hostprobe"]);
    build.args(["--profile", profile, "--message-format", "json-render-diagnostics"]);
    for_machine(&mut build, machine)?;
    if !machine.has_static_pie() {
        let linker = format!("CARGO_TARGET_{}_LINKER", triple.replace('-', "_").to_uppercase());
        build.env(linker, root().join("xtask/src/dist/static_pie.sh"));
        build.env("STATIC_PIE_COMPILER", machine.compiler().unwrap_or("cc"));
    }
    // Places in messages of a panic name no folder of the machine that built it.
    let mut flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    for (from, to) in [(root(), "hostprobe"), (cargo_home()?, "cargo")] {
        flags.push_str(&format!(" --remap-path-prefix={}={to}", from.display()));
    }
    build.env("RUSTFLAGS", flags.trim());
    announce(&build);
    let output = build.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "hostprobe could not be built for {triple}");
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut programs = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    });
    programs.next_back().context("cargo names no program")
}

/// Has a command of cargo build for a machine: with Rust's own library for it, and with the compiler and linker that cargo
/// and the build scripts take for it.
pub fn for_machine(build: &mut Command, machine: Machine) -> Result<()> {
    standard_library(machine.triple())?;
    build.args(["--target", machine.triple()]);
    if let Some(compiler) = machine.compiler() {
        let name = machine.triple().replace('-', "_");
        build.env(format!("CC_{name}"), compiler);
        build.env(format!("CFLAGS_{name}"), headers::options(machine, compiler)?);
        build.env(format!("CARGO_TARGET_{}_LINKER", name.to_uppercase()), compiler);
    }
    Ok(())
}

/// Installs Rust's own library for a target, with the toolchain that runs this program.
fn standard_library(triple: &str) -> Result<()> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]).current_dir(root()))?;
    if Path::new(&sysroot).join("lib/rustlib").join(triple).join("lib").is_dir() {
        return Ok(());
    }
    nightly::run(Command::new("rustup").args(["target", "add", triple]).current_dir(root()))
        .with_context(|| format!("{triple}: missing; run `rustup target add {triple}`"))
}

fn cargo_home() -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo"))).context("HOME is not set")
}
