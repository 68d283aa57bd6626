//! The manual pages and the completions of shells, which the program itself writes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::release::Program;
use crate::{cargo::command, nightly::output};

/// What every package has of it.
pub(super) struct Manual {
    /// A file for each command, by the name it is installed under.
    pub(super) pages: Vec<PathBuf>,
    pub(super) completions: Vec<Completion>,
}

/// The completions of a shell.
pub(super) struct Completion {
    pub(super) shell: &'static str,
    pub(super) file: PathBuf,
}

const SHELLS: [&str; 3] = ["bash", "fish", "zsh"];

/// Writes them below a folder.
pub(super) fn write(programs: &[Program], folder: &Path) -> Result<Manual> {
    let pages = folder.join("man");
    fs::create_dir_all(&pages)?;
    output(hostprobe(programs).arg("man-pages").arg(&pages))?;
    let entries = fs::read_dir(&pages)?.collect::<Result<Vec<_>, _>>()?;
    let mut pages: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    pages.sort();
    let mut completions = Vec::new();
    for shell in SHELLS {
        let file = folder.join(format!("completions.{shell}"));
        let script = output(hostprobe(programs).args(["completions", shell]))?;
        fs::write(&file, format!("{script}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
        completions.push(Completion { shell, file });
    }
    Ok(Manual { pages, completions })
}

/// The program of the release, or else one for this host.
fn hostprobe(programs: &[Program]) -> Command {
    let here = programs.iter().find(|program| program.machine.is_here());
    here.map_or_else(
        || command(&["run", "--quiet", "-p", "hostprobe", "--"]),
        |program| Command::new(&program.file),
    )
}
