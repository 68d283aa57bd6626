//! Files that depend on each other in a circle.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{module::Tree, reference::Reference, resolve::Target};

/// For each file the files it depends on, with the names that it uses of them.
pub type Dependencies = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Which file uses what another one defines.
///
/// A module's re-export of what a module inside it defines does not count: like `mod`, it only makes that reachable.
pub fn dependencies(tree: &Tree, references: &[Reference]) -> Dependencies {
    let mut found = Dependencies::new();
    for reference in references.iter().filter(|reference| !reference.is_facade) {
        // A module's name alone is nothing that its file defines.
        let Target::Item(definer, name) = &reference.to.target else { continue };
        let (from, to) = (&tree.modules[reference.from].file, &tree.modules[*definer].file);
        if from != to {
            let names = found.entry(from.clone()).or_default().entry(to.clone()).or_default();
            names.insert(name.clone());
        }
    }
    found
}

/// Files of which each one depends on all others, directly or not.
#[derive(Debug, PartialEq, Eq)]
pub struct Circle {
    /// The files, sorted.
    pub files: Vec<String>,
    /// From file, to file, and the names that the first uses of the second.
    pub ties: Vec<(String, String, BTreeSet<String>)>,
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "circle of {} files; move what they share into a file below them:", self.files.len())?;
        for (from, to, names) in &self.ties {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            write!(f, "\n  {from} -> {to}: {}", names.join(", "))?;
        }
        Ok(())
    }
}

/// All circles, the largest first. No file is in two of them.
pub fn circles(dependencies: &Dependencies) -> Vec<Circle> {
    let reachable: BTreeMap<&str, BTreeSet<&str>> =
        dependencies.keys().map(|file| (file.as_str(), reachable(dependencies, file))).collect();
    let reaches = |from: &str, to: &str| reachable.get(from).is_some_and(|files| files.contains(to));
    let mut placed = BTreeSet::new();
    let mut found = Vec::new();
    for file in dependencies.keys().filter(|file| reaches(file, file)) {
        if placed.contains(file) {
            continue;
        }
        let together = |other: &&String| reaches(file, other) && reaches(other, file);
        let files: Vec<String> = dependencies.keys().filter(together).cloned().collect();
        placed.extend(files.iter().cloned());
        let mut ties = Vec::new();
        for from in &files {
            let inside = dependencies[from].iter().filter(|(to, _)| files.contains(to));
            ties.extend(inside.map(|(to, names)| (from.clone(), to.clone(), names.clone())));
        }
        found.push(Circle { files, ties });
    }
    found.sort_by_key(|circle| std::cmp::Reverse(circle.files.len()));
    found
}

/// Every file that a file depends on, directly or not.
fn reachable<'a>(dependencies: &'a Dependencies, from: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&str> = vec![from];
    while let Some(file) = next.pop() {
        for to in dependencies.get(file).into_iter().flat_map(|names| names.keys()) {
            if found.insert(to.as_str()) {
                next.push(to);
            }
        }
    }
    found
}
