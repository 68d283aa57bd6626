//! The packages of a release, built for tests: from an unoptimized program, once for all tests of a process.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, Result, ensure};

use crate::parts::{require, require_root};

/// The version that is installed first, and the one that it is upgraded to.
pub const FIRST: &str = "0.1.0";
pub const SECOND: &str = "0.1.1";

/// A folder with the files of a release.
#[derive(Clone, Debug)]
pub struct Packages {
    folder: PathBuf,
    version: &'static str,
}

/// Debian's name of this machine.
fn debian_machine() -> &'static str {
    if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" }
}

impl Packages {
    /// The packages of both versions. They differ in nothing but their version. None where they cannot be built.
    ///
    /// # Panics
    /// If they cannot be built in spite of all that is needed.
    pub fn both() -> Option<[Self; 2]> {
        static BUILT: OnceLock<[Packages; 2]> = OnceLock::new();
        if !require_root()
            || !require("musl-tools", "/usr/bin/musl-gcc")
            || !require("rpm", "/usr/bin/rpmbuild")
        {
            return None;
        }
        Some(BUILT.get_or_init(|| Self::build().unwrap_or_else(|error| panic!("{error:#}"))).clone())
    }

    fn build() -> Result<[Self; 2]> {
        let first = Self::dist(FIRST, "first", &["--profile", "dev"])?;
        let program = first.program().display().to_string();
        let second = Self::dist(SECOND, "second", &["--program", &program])?;
        Ok([first, second])
    }

    /// Has `cargo xtask dist` write a release of this machine into a folder below `target`.
    pub fn dist(version: &'static str, name: &str, further: &[&str]) -> Result<Self> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
        let folder = workspace.join("target/test-packages").join(name);
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut dist = Command::new(cargo);
        dist.args(["run", "--quiet", "--package", "xtask", "--", "dist", "--quick", "--version", version]);
        dist.args(["--machine", std::env::consts::ARCH, "--output"]).arg(&folder).args(further);
        // Whatever is committed meanwhile.
        dist.env("SOURCE_DATE_EPOCH", "1700000000");
        let output = dist.current_dir(workspace).output().context("starting cargo")?;
        ensure!(
            output.status.success(),
            "cargo xtask dist: {}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(Self { folder, version })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn deb(&self) -> PathBuf {
        self.folder.join(format!("hostprobe_{}_{}.deb", self.version, debian_machine()))
    }

    pub fn rpm(&self) -> PathBuf {
        self.folder.join(format!("hostprobe-{}-1.{}.rpm", self.version, std::env::consts::ARCH))
    }

    /// The archive of the container image.
    pub fn image(&self) -> PathBuf {
        self.folder.join(format!("hostprobe-{}-oci.tar", self.version))
    }

    /// The list of what is in the program.
    pub fn contents(&self) -> PathBuf {
        self.folder.join(format!("hostprobe-{}-{}.cdx.json", self.version, std::env::consts::ARCH))
    }

    /// The static program.
    pub fn program(&self) -> PathBuf {
        self.folder.join(format!("hostprobe-{}-{}-unknown-linux-musl", self.version, std::env::consts::ARCH))
    }
}
