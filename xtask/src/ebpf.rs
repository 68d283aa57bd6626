//! Builds the eBPF object, and verifies that the checked-in one matches its sources.
//!
//! The daemon includes a compiled object, so that stable Rust alone builds it. The price is that object and sources can
//! differ. Two checks guard against that: a unit test compares a digest of the sources, which lies beside the object, and
//! `verify-ebpf` builds the object again and compares its bytes.

mod digest;
mod toolchain;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{cargo, nightly};

/// Exit status of `verify-ebpf` without the toolchain: it can say neither "the same" nor "different".
const NOT_VERIFIED: u8 = 4;

/// The daemon includes this file. The path counts from the workspace's folder.
const OBJECT: &str = "probe-user/ebpf/hostprobe.bpf.o";

/// The digest of the sources that the object was built from.
const DIGEST: &str = "probe-user/ebpf/hostprobe.bpf.o.sources.sha256";

/// Builds the object and writes it and its digest where they are checked in.
pub fn build() -> Result<()> {
    let root = cargo::root();
    toolchain::ensure()?;
    let built = compile(&root, &root.join("target/ebpf"))?;
    let object = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let folder = root.join(OBJECT);
    fs::create_dir_all(folder.parent().context("the object has a folder")?)?;
    fs::write(root.join(OBJECT), &object).with_context(|| format!("cannot write {OBJECT}"))?;
    fs::write(root.join(DIGEST), digest::of_sources(&root)?)
        .with_context(|| format!("cannot write {DIGEST}"))?;
    println!("{OBJECT}: {} bytes", object.len());
    Ok(())
}

/// Builds the object in a scratch folder and compares it with the checked-in one.
pub fn verify() -> Result<ExitCode> {
    let root = cargo::root();
    if let Err(error) = toolchain::ensure() {
        eprintln!("{OBJECT}: NOT verified, as the eBPF toolchain is missing: {error:#}");
        return Ok(ExitCode::from(NOT_VERIFIED));
    }
    let expected = fs::read(root.join(OBJECT)).with_context(|| format!("cannot read {OBJECT}"))?;
    let scratch = root.join("target/verify-ebpf");
    // A build of an earlier run would prove nothing about these sources.
    match fs::remove_dir_all(&scratch) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot empty {}", scratch.display()));
        }
        _ => {}
    }
    let built = fs::read(compile(&root, &scratch)?)?;
    if built == expected {
        println!("{OBJECT}: verified, {} bytes", built.len());
        return Ok(ExitCode::SUCCESS);
    }
    let place =
        built.iter().zip(&expected).position(|(a, b)| a != b).unwrap_or(built.len().min(expected.len()));
    eprintln!(
        "{OBJECT}: DIFFERENT from byte {place} on: it has {} bytes, a new build has {}; if the sources are right, run \
         `cargo xtask build-ebpf`",
        expected.len(),
        built.len()
    );
    Ok(ExitCode::FAILURE)
}

/// Compiles the eBPF programs into `target` and returns the object's path.
fn compile(root: &Path, target: &Path) -> Result<PathBuf> {
    let home = |variable: &str, default: &str| {
        env::var_os(variable).map(PathBuf::from).or_else(|| env::home_dir().map(|it| it.join(default)))
    };
    // The object must have the same bytes wherever it is built.
    let mut flags =
        vec!["-Clinker=bpf-linker".to_owned(), format!("--remap-path-prefix={}=.", root.display())];
    for (folder, name) in
        [(home("CARGO_HOME", ".cargo"), "cargo"), (home("RUSTUP_HOME", ".rustup"), "rustup")]
    {
        if let Some(folder) = folder {
            flags.push(format!("--remap-path-prefix={}={name}", folder.display()));
        }
    }
    let status = nightly::command(&["cargo", "build", "--locked", "--release"])
        .args(["--package", "probe-ebpf", "--bin", "hostprobe-bpf", "--features", "ebpf"])
        .args(["--target", "bpfel-unknown-none", "-Zbuild-std=core"])
        .arg("--target-dir")
        .arg(target)
        // The workspace builds the daemon's libraries for size.
        .args(["--config", r#"profile.release.package."*".opt-level=3"#])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        // The workspace's release profile is for the daemon. bpf-linker optimizes this crate as a whole, and the loader
        // reads no debug information.
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        // Incremental builds are split into more units.
        .env("CARGO_INCREMENTAL", "0")
        .status()
        .context("cannot run rustup")?;
    ensure!(status.success(), "probe-ebpf: the build failed");
    let object = target.join("bpfel-unknown-none/release/hostprobe-bpf");
    if !object.is_file() {
        bail!("{}: the build did not write it", object.display());
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_was_built_from_these_sources() {
        let root = cargo::root();
        let recorded = fs::read_to_string(root.join(DIGEST)).unwrap();
        assert_eq!(
            recorded,
            digest::of_sources(&root).unwrap(),
            "probe-ebpf/src: differs from what the object was built from; run `cargo xtask build-ebpf`"
        );
    }
}
