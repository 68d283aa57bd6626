//! The tools that build the fuzzers.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{
    nightly::{self, output, run, succeeds},
    test::packages,
};

/// The version of cargo-fuzz.
const CARGO_FUZZ: &str = "0.13.2";

/// Installs the parts that are missing, or fails with the commands that do.
pub fn ensure() -> Result<()> {
    nightly::ensure()?;
    let version = output(&mut nightly::command(&["cargo", "fuzz", "--version"])).unwrap_or_default();
    if version.split_whitespace().next_back() != Some(CARGO_FUZZ) {
        let install = ["install", "cargo-fuzz", "--version", CARGO_FUZZ, "--locked"];
        run(Command::new("cargo").args(install)).with_context(|| {
            format!("cargo-fuzz {CARGO_FUZZ}: missing; run `cargo {}`", install.join(" "))
        })?;
    }
    ensure_compiler()
}

/// Installs the compiler of libFuzzer, which is C++.
pub fn ensure_compiler() -> Result<()> {
    if !succeeds(Command::new("c++").arg("--version")) {
        packages::provide(&["g++"]).map(drop).context("c++: missing; install g++")?;
    }
    Ok(())
}
