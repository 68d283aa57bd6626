//! Builds the eBPF object, and proves that the one checked in is what the sources give.
//!
//! The daemon includes a compiled object, so that building it takes stable Rust alone. The price is that sources and
//! object can part. Two things guard against that: a digest of the sources beside the object, which a unit test
//! compares, and `verify-ebpf`, which builds again and compares bytes.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail, ensure};

mod digest;
mod toolchain;

/// Exit status of `verify-ebpf` when it could not verify: neither "the same" nor "different".
const NOT_VERIFIED: u8 = 4;

/// Where the daemon takes the object from, from the workspace root.
const OBJECT: &str = "probe-user/ebpf/hostprobe.bpf.o";

/// Digest of what the object was built from.
const DIGEST: &str = "probe-user/ebpf/hostprobe.bpf.o.sources.sha256";

/// Builds the object and checks it in.
pub fn build() -> Result<()> {
    let root = root()?;
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

/// Builds the object in a folder of its own and compares it with the one checked in.
pub fn verify() -> Result<ExitCode> {
    let root = root()?;
    if let Err(error) = toolchain::ensure() {
        eprintln!("NOT verified: the eBPF toolchain is not there: {error:#}");
        return Ok(ExitCode::from(NOT_VERIFIED));
    }
    let expected = fs::read(root.join(OBJECT)).with_context(|| format!("cannot read {OBJECT}"))?;
    let scratch = root.join("target/verify-ebpf");
    // A build left over from an earlier run would only be compared with itself.
    match fs::remove_dir_all(&scratch) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot empty {}", scratch.display()));
        }
        _ => {}
    }
    let built = fs::read(compile(&root, &scratch)?)?;
    if built == expected {
        println!("verified: {OBJECT} is what its sources give ({} bytes)", built.len());
        return Ok(ExitCode::SUCCESS);
    }
    let place =
        built.iter().zip(&expected).position(|(a, b)| a != b).unwrap_or(built.len().min(expected.len()));
    eprintln!(
        "DIFFERENT: {OBJECT} has {} bytes, a new build {}; they part at byte {place}. \
         If the sources are right, run `cargo xtask build-ebpf`.",
        expected.len(),
        built.len()
    );
    Ok(ExitCode::FAILURE)
}

/// Compiles the programs into `target` and returns the object's path.
fn compile(root: &Path, target: &Path) -> Result<PathBuf> {
    let home = |variable: &str, default: &str| {
        env::var_os(variable).map(PathBuf::from).or_else(|| env::home_dir().map(|it| it.join(default)))
    };
    // No byte of the object may depend on where it was built.
    let mut flags =
        vec!["-Clinker=bpf-linker".to_owned(), format!("--remap-path-prefix={}=.", root.display())];
    for (folder, name) in
        [(home("CARGO_HOME", ".cargo"), "cargo"), (home("RUSTUP_HOME", ".rustup"), "rustup")]
    {
        if let Some(folder) = folder {
            flags.push(format!("--remap-path-prefix={}={name}", folder.display()));
        }
    }
    let status = Command::new("rustup")
        .args(["run", toolchain::RUST, "cargo", "build", "--locked", "--release"])
        .args(["--package", "probe-ebpf", "--bin", "hostprobe-bpf", "--features", "ebpf"])
        .args(["--target", "bpfel-unknown-none", "-Zbuild-std=core"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(root)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        // The workspace's release profile is made for the daemon. This is for the one crate that bpf-linker optimizes
        // as a whole; without debug information, which no loader here reads.
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        // Set by the cargo that runs this program, and about another toolchain.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTC")
        .env_remove("CARGO")
        .status()
        .context("cannot run rustup")?;
    ensure!(status.success(), "the build of the eBPF programs failed");
    let object = target.join("bpfel-unknown-none/release/hostprobe-bpf");
    if !object.is_file() {
        bail!("the build left no {}", object.display());
    }
    Ok(object)
}

/// The workspace's folder.
fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_owned).context("xtask is a folder of the workspace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_was_built_from_these_sources() {
        let root = root().unwrap();
        let recorded = fs::read_to_string(root.join(DIGEST)).unwrap();
        assert_eq!(
            recorded,
            digest::of_sources(&root).unwrap(),
            "the eBPF sources have changed: run `cargo xtask build-ebpf`"
        );
    }
}
