//! The packages that are checked, and the texts of their files.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};

/// A folder of sources: a library, programs, or both.
pub struct Package {
    /// From the workspace's folder.
    pub folder: &'static str,
    /// The library's first file, and the name other crates use for it.
    pub library: Option<(&'static str, &'static str)>,
}

/// Every package of the workspace.
pub const PACKAGES: [Package; 4] = [
    Package { folder: "probe-user/src", library: Some(("lib.rs", "hostprobe")) },
    Package { folder: "probe-ebpf/src", library: Some(("abi.rs", "probe_abi")) },
    Package { folder: "tests/src", library: Some(("lib.rs", "hostprobe_tests")) },
    Package { folder: "xtask/src", library: None },
];

/// The texts of a package's Rust files, by their path in its folder.
pub type Sources = BTreeMap<String, String>;

/// Reads all Rust files below a folder.
pub fn read(folder: &Path) -> Result<Sources> {
    let mut sources = Sources::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("cannot list {}", next.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path);
                let text = text.with_context(|| format!("cannot read {}", path.display()))?;
                let name = path.strip_prefix(folder)?.to_str().context("a file's name is not UTF-8")?;
                sources.insert(name.to_owned(), text);
            }
        }
    }
    Ok(sources)
}

/// Whether a file holds tests alone. Tests may use whatever they need.
pub fn is_test(file: &str) -> bool {
    file.split('/').any(|part| part == "tests" || part == "tests.rs")
}
