//! One digest of everything that decides the object's bytes.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::toolchain;
use crate::nightly;

/// These crates are compiled into the object. The lock file has their versions.
const CRATES: &[&str] = &[
    "aya-ebpf",
    "aya-ebpf-bindings",
    "aya-ebpf-cty",
    "aya-ebpf-macros",
    "aya-log-common",
    "aya-log-ebpf",
    "aya-log-ebpf-macros",
];

/// The digest, in the format of `sha256sum`: of the sources by name, then of versions.
///
/// It depends neither on line endings nor on the order of the file system.
pub fn of_sources(root: &Path) -> Result<String> {
    let mut files = vec!["probe-ebpf/Cargo.toml".to_owned()];
    let mut folders = vec!["probe-ebpf/src".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).with_context(|| format!("cannot list {folder}"))? {
            let entry = entry?;
            let name = entry
                .file_name()
                .into_string()
                .ok()
                .context("probe-ebpf: the name of a source file is not UTF-8")?;
            let path = format!("{folder}/{name}");
            if entry.file_type()?.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();

    let mut hash = Sha256::new();
    let mut add = |name: &str, content: &str| {
        hash.update(format!("{name}\0{}\0{content}", content.len()));
    };
    for file in &files {
        let text = fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {file}"))?;
        add(file, &text.replace("\r\n", "\n"));
    }
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
    for name in CRATES {
        add(name, version(&lock, name).unwrap_or("none"));
    }
    add("rust", nightly::RUST);
    add("bpf-linker", toolchain::BPF_LINKER);
    let bytes = hash.finalize();
    let hex: String = bytes.iter().map(|it| format!("{it:02x}")).collect();
    Ok(format!("{hex}  probe-ebpf\n"))
}

fn version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let start = lock.find(&format!("name = \"{package}\"\n"))?;
    lock[start..].lines().nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_versions_by_whole_names() {
        let lock = "[[package]]\nname = \"aya-ebpf-cty\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"aya-ebpf\"\nversion = \"2.0.0\"\n";
        assert_eq!(version(lock, "aya-ebpf"), Some("2.0.0"));
        assert_eq!(version(lock, "aya"), None);
    }
}
