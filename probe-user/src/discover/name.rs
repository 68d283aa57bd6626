//! Names for what was found, such as a configuration takes.

use std::collections::{HashMap, HashSet};

use super::found::Found;

/// The longest name, so that a port and a number still fit into the 64 characters a configuration allows.
const LONGEST: usize = 52;

/// The name of a service: that of its unit, else that of the file it executes, with a hyphen for every
/// character that a configuration does not take in a name.
pub(super) fn of(unit: Option<&str>, file: &str) -> String {
    let text = unit.map_or(file, |unit| unit.strip_suffix(".service").unwrap_or(unit));
    let allowed = |char: char| char.is_ascii_alphanumeric() || "._-".contains(char);
    let name: String =
        text.chars().map(|char| if allowed(char) { char } else { '-' }).take(LONGEST).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

/// Puts the port behind names that several services have, and a number where that is not enough.
pub(super) fn make_unique(found: &mut [Found]) {
    let mut count: HashMap<String, usize> = HashMap::new();
    for found in &*found {
        *count.entry(found.service.name.clone()).or_default() += 1;
    }
    let alone = |name: &String| count.get(name) == Some(&1);
    let mut taken: HashSet<String> = count.keys().filter(|name| alone(name)).cloned().collect();
    for found in found.iter_mut().filter(|found| !alone(&found.service.name)) {
        let port = found.ports.first().copied().unwrap_or_default();
        let base = format!("{}-{port}", found.service.name);
        let further = (2_u32..).map(|number| format!("{base}-{number}"));
        let free = std::iter::once(base.clone()).chain(further).find(|name| !taken.contains(name));
        found.service.name = free.unwrap_or(base);
        taken.insert(found.service.name.clone());
    }
}
