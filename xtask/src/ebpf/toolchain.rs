//! The toolchain that compiles for BPF.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{
    nightly::{self, RUST, output, run},
    test::packages,
};

/// The linker's version. Its LLVM must have the major version of the compiler's.
pub const BPF_LINKER: &str = "0.13.0";

const LLVM: &str = "22";

/// Installs the parts that are missing, or fails with the commands that do.
pub fn ensure() -> Result<()> {
    nightly::ensure()?;
    let sysroot = output(Command::new("rustup").args(["run", RUST, "rustc", "--print", "sysroot"]))?;
    if !Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file() {
        run(Command::new("rustup").args(["component", "add", "rust-src", "--toolchain", RUST]))
            .with_context(|| {
                format!("rust-src: missing; run `rustup component add rust-src --toolchain {RUST}`")
            })?;
    }
    let version = output(Command::new("bpf-linker").arg("--version")).unwrap_or_default();
    if !version.split_whitespace().any(|it| it == BPF_LINKER) {
        install_linker()?;
    }
    Ok(())
}

fn install_linker() -> Result<()> {
    let prefix = format!("/usr/lib/llvm-{LLVM}");
    let how = format!(
        "install LLVM {LLVM} (Debian: apt-get install llvm-{LLVM}-dev), then: LLVM_PREFIX={prefix} cargo install \
         bpf-linker --version {BPF_LINKER} --locked --no-default-features --features llvm-{LLVM}"
    );
    if !Path::new(&prefix).is_dir() {
        let package = format!("llvm-{LLVM}-dev");
        let missing = packages::provide(&[&package]).with_context(|| how.clone())?;
        ensure!(missing.is_empty(), "bpf-linker {BPF_LINKER}: missing; {how}");
    }
    run(Command::new("cargo")
        .args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked", "--no-default-features"])
        .args(["--features", &format!("llvm-{LLVM}")])
        .env("LLVM_PREFIX", &prefix))
    .context(how)
}
