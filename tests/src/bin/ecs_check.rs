//! Checks event streams against the Elastic Common Schema, all together: `ecs_check FILE|FOLDER...`.
//!
//! Exit status: 0 if an index with ECS's mappings takes all of it, 1 if not, or if there is no event.

use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use hostprobe_tests::ecs::Check;

fn main() -> Result<ExitCode> {
    let mut check = Check::default();
    for argument in std::env::args_os().skip(1).map(PathBuf::from) {
        for file in files(&argument).with_context(|| argument.display().to_string())? {
            add(&mut check, &file)?;
        }
    }
    let findings = check.findings();
    findings.iter().for_each(|finding| println!("{finding}"));
    println!("{} events held against ECS, {} findings", check.events(), findings.len());
    let is_good = findings.is_empty() && check.events() > 0;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The files of a folder, or the file itself.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
}

fn add(check: &mut Check, file: &Path) -> Result<()> {
    let name = file.display().to_string();
    let lines = BufReader::new(fs::File::open(file).with_context(|| name.clone())?);
    for (number, line) in (1..).zip(lines.lines()) {
        let event = serde_json::from_str(&line?).with_context(|| format!("{name}, line {number}"))?;
        check.add(&name, &event);
    }
    Ok(())
}
