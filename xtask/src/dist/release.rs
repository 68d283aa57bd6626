//! What all parts of a release have in common: version, time, folders.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{machine::Machine, sums};
use crate::{
    cargo::{command, root},
    nightly::output,
};

const SCRATCH: &str = "scratch";

/// What all parts of a release have in common.
pub(super) struct Release {
    pub(super) version: String,
    /// Seconds since 1970 that files and texts have as their time: SOURCE_DATE_EPOCH, or the time of the last commit.
    pub(super) epoch: u64,
    /// Where the finished files go.
    pub(super) folder: PathBuf,
    /// Where they are put together; it is gone in the end.
    pub(super) scratch: PathBuf,
    /// Compress little.
    pub(super) quick: bool,
}

/// A program for one machine.
pub(super) struct Program {
    pub(super) machine: Machine,
    pub(super) file: PathBuf,
}

impl Release {
    /// Begins one in a folder. An earlier release there is deleted. The version is that of the workspace, if none is given.
    pub(super) fn new(folder: PathBuf, version: Option<&str>, quick: bool) -> Result<Self> {
        let scratch = folder.join(SCRATCH);
        empty(&folder)?;
        fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
        let version = version.map_or_else(workspace_version, |version| Ok(version.to_owned()))?;
        let plain = |char: char| char.is_ascii_alphanumeric() || ".+~".contains(char);
        ensure!(
            version.starts_with(|first: char| first.is_ascii_digit()) && version.chars().all(plain),
            "version {version:?}: expected digits, letters, `.`, `+` and `~`, as packages of both families take"
        );
        Ok(Self { version, epoch: epoch()?, folder, scratch, quick })
    }

    /// Copies a program to where the release has it, without its symbols.
    pub(super) fn program(&self, machine: Machine, built: &Path) -> Result<Program> {
        let file = self.folder.join(format!("hostprobe-{}-{}", self.version, machine.triple()));
        let mut strip = Command::new(machine.strip());
        output(strip.arg("--strip-all").arg("-o").arg(&file).arg(root().join(built)))?;
        Ok(Program { machine, file })
    }

    /// A command with the time of the release, which tools of packages take for that of their files.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SOURCE_DATE_EPOCH", self.epoch.to_string()).env("LC_ALL", "C").env("TZ", "UTC");
        command
    }
}

/// Deletes an earlier release, whole or begun. A folder of anything else stays.
fn empty(folder: &Path) -> Result<()> {
    let Ok(mut entries) = fs::read_dir(folder) else { return Ok(()) };
    let is_release = folder.join(sums::FILE).exists() || folder.join(SCRATCH).exists();
    ensure!(
        is_release || entries.next().is_none(),
        "{}: holds other files than those of a release; name another --output",
        folder.display()
    );
    fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))
}

fn workspace_version() -> Result<String> {
    let metadata = metadata(&["--no-deps"])?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let mut versions = packages.filter(|package| package["name"] == "hostprobe");
    let version = versions.next().and_then(|package| package["version"].as_str());
    version.map(str::to_owned).context("cargo metadata names no version of hostprobe")
}

fn epoch() -> Result<u64> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return given.parse().with_context(|| format!("SOURCE_DATE_EPOCH {given:?}: expected seconds"));
    }
    let mut log = Command::new("git");
    let seconds = output(log.args(["log", "-1", "--format=%ct"]).current_dir(root()));
    // An unpacked archive of the sources has no history.
    Ok(seconds.ok().and_then(|seconds| seconds.parse().ok()).unwrap_or_default())
}

/// What `cargo metadata` says of the workspace.
pub(super) fn metadata(arguments: &[&str]) -> Result<Value> {
    let said = output(command(&["metadata", "--format-version=1"]).args(arguments))?;
    serde_json::from_str(&said).context("cargo metadata printed no JSON")
}
