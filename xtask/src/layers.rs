//! `cargo xtask layers`: no folder imports from a layer above it, and no files depend on each other in a circle.
//!
//! A file depends on another one if it names an item which that file defines. Names are followed through imports
//! and re-exports to the definition. Methods do not count: to tell which one a call means takes type inference.
#![allow(clippy::wildcard_enum_match_arm, reason = "syn's enums grow with the language")]

mod circle;
mod module;
mod reference;
mod resolve;
mod source;
mod syntax;
mod table;
mod tokens;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use self::{
    module::Tree,
    source::{PACKAGES, Package, Sources},
    table::LAYERS,
};
use crate::cargo::root;

/// The package whose folders have layers.
const LAYERED: &str = "probe-user/src";

/// Prints the layers, and what goes against them.
pub fn layers() -> Result<ExitCode> {
    println!("layers of {LAYERED}, the ground first:");
    for (number, folders) in LAYERS.iter().enumerate() {
        println!("{:4} {}", number + 1, folders.join(" "));
    }
    let found = findings()?;
    found.iter().for_each(|finding| println!("\n{finding}"));
    println!("\n{} findings", found.len());
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Fails if an import goes upwards, or files depend on each other in a circle.
pub fn check() -> Result<()> {
    let found = findings()?;
    ensure!(found.is_empty(), "{} imports and circles to undo:\n{}", found.len(), found.join("\n"));
    Ok(())
}

fn findings() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for package in &PACKAGES {
        let sources = source::read(&root().join(package.folder))?;
        found.extend(findings_in(package, &sources).with_context(|| package.folder)?);
    }
    Ok(found)
}

/// What goes against the rules in one package.
fn findings_in(package: &Package, sources: &Sources) -> Result<Vec<String>> {
    let tree = Tree::parse(sources, package.library)?;
    let references = reference::references(&tree);
    let mut found = Vec::new();
    if package.folder == LAYERED {
        found.extend(table::violations(package.folder, &tree, &references));
    }
    let circles = circle::circles(&circle::dependencies(&tree, &references));
    found.extend(circles.iter().map(|circle| format!("{}: {circle}", package.folder)));
    Ok(found)
}

#[cfg(test)]
mod tests;
