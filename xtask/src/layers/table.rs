//! The table of layers, and the imports that go against it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{module::Tree, reference::Reference, resolve::Target};

/// The folders of `probe-user/src`, one layer a row, the ground first. A folder may import from itself and from the
/// layers before its own in this table.
pub const LAYERS: &[&[&str]] = &[
    &["progress", "time_slice"],
    &["bounded_thread"],
    &["account", "clock", "descriptors", "escape", "json_schema", "outcomes", "redact", "untrusted_file"],
    &["file_stamp", "growth", "rotated_file", "server_certificate"],
    &["fact"],
    &["config"],
    &["host"],
    &["spawn", "stacks"],
    &["sensor"],
    &["enrich"],
    &["probe"],
    &["engine"],
    &["emit"],
    &["fleet"],
    &["act"],
    &["inspect"],
    &["store"],
    &["serve"],
    &["replay"],
    &["discover"],
    &["process"],
    &["doctor"],
    &["daemon"],
    &["lib"],
    &["cli"],
    &["main"],
];

/// The number of a folder's layer, counted from the ground.
fn layer_of(folder: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&folder))
}

/// The folder below the package that a file belongs to; a file there is a folder of its own.
fn folder_of(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or(file);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// What goes against the table, a line each. `package` is the folder that the files' paths count from.
pub fn violations(package: &str, tree: &Tree, references: &[Reference]) -> Vec<String> {
    let mut found = unknown_folders(package, tree);
    // By place, and what is imported there: one line for all names of a folder.
    let mut upward: BTreeMap<(&str, usize, &str), Vec<String>> = BTreeMap::new();
    let mut seen = HashSet::new();
    for reference in references {
        let file = tree.modules[reference.from].file.as_str();
        let name = match &reference.to.target {
            Target::Item(_, name) => name.clone(),
            Target::Module(module) => tree.path(*module),
        };
        let definer = match reference.to.target {
            Target::Item(module, _) | Target::Module(module) => module,
        };
        // A name that an upper folder re-exports is an import from that folder too.
        for module in [reference.to.through, definer] {
            let folder = folder_of(&tree.modules[module].file);
            if !may_import(folder_of(file), folder) && seen.insert((file, folder, name.clone())) {
                upward.entry((file, reference.line, folder)).or_default().push(name.clone());
            }
        }
    }
    found.extend(upward.into_iter().map(|((file, line, folder), names)| {
        let from = folder_of(file);
        let number = |folder| layer_of(folder).map_or(0, |layer| layer + 1);
        format!(
            "{package}/{file}:{line}: {from} must not import {folder} ({}): {from} is layer {}, {folder} layer {}; \
             move what both need down, or this code up",
            names.join(", "),
            number(from),
            number(folder),
        )
    }));
    found
}

/// Whether code of one folder may name what another one has. A folder without a layer is reported on its own.
fn may_import(from: &str, folder: &str) -> bool {
    let (Some(own), Some(other)) = (layer_of(from), layer_of(folder)) else { return true };
    from == folder || other < own
}

fn unknown_folders(package: &str, tree: &Tree) -> Vec<String> {
    let files = tree.modules.iter().map(|module| folder_of(&module.file));
    let unknown: BTreeSet<&str> = files.filter(|it| layer_of(it).is_none()).collect();
    let lines = unknown.into_iter().map(|folder| {
        format!("{package}/{folder}: has no layer; add it to LAYERS in xtask/src/layers/table.rs")
    });
    lines.collect()
}
