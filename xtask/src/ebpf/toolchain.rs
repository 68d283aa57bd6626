//! The toolchain that compiles for BPF.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};

/// The compiler. To build `core` from source takes a nightly. The version is fixed, because another one may write other
/// bytes.
pub const RUST: &str = "nightly-2026-05-20";

/// The linker's version. Its LLVM must have the major version of the compiler's.
pub const BPF_LINKER: &str = "0.13.0";

const LLVM: &str = "22";

/// Installs the parts that are missing, or fails with the commands that do.
pub fn ensure() -> Result<()> {
    if !succeeds(Command::new("rustup").args(["run", RUST, "rustc", "--version"])) {
        run(Command::new("rustup").args(["toolchain", "install", RUST, "--profile", "minimal"]))
            .with_context(|| format!("{RUST}: missing; run `rustup toolchain install {RUST}`"))?;
    }
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
        let root = output(Command::new("id").arg("-u"))? == "0";
        if !root || !succeeds(Command::new("apt-get").arg("--version")) {
            bail!("bpf-linker {BPF_LINKER}: missing; {how}");
        }
        run(Command::new("apt-get").args(["install", "--yes", "--no-install-recommends", &package]))
            .with_context(|| how.clone())?;
    }
    run(Command::new("cargo")
        .args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked", "--no-default-features"])
        .args(["--features", &format!("llvm-{LLVM}")])
        .env("LLVM_PREFIX", &prefix))
    .context(how)
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|it| it.status.success())
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn run(command: &mut Command) -> Result<()> {
    eprintln!("running {command:?}");
    let status = command.status().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    ensure!(status.success(), "{command:?} failed ({status})");
    Ok(())
}
