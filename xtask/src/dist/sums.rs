//! The digests of the finished files.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};

/// As `sha256sum --check` reads it.
pub(super) const FILE: &str = "SHA256SUMS";

/// Writes the digests of all files of a folder.
pub(super) fn write(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<_> =
        entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    let mut text = String::new();
    for file in files {
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.file_name().context("a file has a name")?.to_string_lossy();
        text.push_str(&format!("{}  {name}\n", sha256(&bytes)));
    }
    Ok(fs::write(folder.join(FILE), text)?)
}

/// In hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
