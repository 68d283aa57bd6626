//! What is in the program: a list of its crates with versions, licences and digests, in the format CycloneDX 1.5.
//!
//! <https://cyclonedx.org/docs/1.5/json/>

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    image::timestamp,
    machine::Machine,
    release::{Release, metadata},
    sums::sha256,
};
use crate::{
    cargo::{command, root},
    nightly::output,
};

/// A crate: its name and version.
type Name = (String, String);

/// Writes the list for a machine; returns its file.
pub(super) fn write(release: &Release, machine: Machine) -> Result<PathBuf> {
    let triple = machine.triple();
    let included = parse_tree(&output(command(&["tree", "--locked", "-p", "hostprobe"]).args([
        "--edges=normal,build",
        "--target",
        triple,
        "--prefix=none",
        "--format={p}",
    ]))?);
    let metadata = metadata(&["--locked", "--filter-platform", triple])?;
    let lock = fs::read_to_string(root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let list = list(release, &metadata, &included, &digests(&lock), triple)?;
    let file = release.folder.join(format!("hostprobe-{}-{}.cdx.json", release.version, machine.uname()));
    fs::write(&file, serde_json::to_vec_pretty(&list)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn list(
    release: &Release,
    metadata: &Value,
    included: &BTreeSet<Name>,
    digests: &BTreeMap<Name, String>,
    triple: &str,
) -> Result<Value> {
    let mut components = Vec::new();
    let mut own = Value::Null;
    // By cargo's own names, for the edges.
    let mut references = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = (text(package, "name"), text(package, "version"));
        if !included.contains(&name) {
            continue;
        }
        let mut component = component(package, &name, digests.get(&name));
        references.insert(text(package, "id"), text(&component, "bom-ref"));
        if name.0 == "hostprobe" {
            component["type"] = json!("application");
            own = component;
        } else {
            components.push(component);
        }
    }
    let nodes = metadata["resolve"]["nodes"].as_array().into_iter().flatten();
    let dependencies: Vec<Value> = nodes
        .filter_map(|node| {
            let reference = references.get(node["id"].as_str()?)?;
            let on = node["dependencies"].as_array()?.iter();
            let on: BTreeSet<&String> = on.filter_map(|id| references.get(id.as_str()?)).collect();
            Some(json!({ "ref": reference, "dependsOn": on }))
        })
        .collect();
    let mut list = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": timestamp(release.epoch)?,
            "component": own,
            "properties": [{ "name": "cargo:target", "value": triple }],
        },
        "components": components,
        "dependencies": dependencies,
    });
    // The same contents have the same number.
    let digest = sha256(&serde_json::to_vec(&list)?);
    let part = |from: usize, to: usize| digest.get(from..to).unwrap_or_default();
    // A UUID of version 8, whose bits are free.
    let number =
        format!("{}-{}-8{}-8{}-{}", part(0, 8), part(8, 12), part(12, 15), part(15, 18), part(18, 30));
    list["serialNumber"] = json!(format!("urn:uuid:{number}"));
    Ok(list)
}

fn component(package: &Value, name: &Name, digest: Option<&String>) -> Value {
    let (name, version) = name;
    let reference = format!("pkg:cargo/{name}@{version}");
    let mut component = json!({
        "type": "library",
        "bom-ref": reference,
        "name": name,
        "version": version,
        "purl": reference,
    });
    if let Some(description) = package["description"].as_str() {
        component["description"] = json!(description.trim());
    }
    if let Some(license) = package["license"].as_str() {
        // Old crates separate alternatives by a slash.
        component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
    }
    if let Some(digest) = digest {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": digest }]);
    }
    component
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// The crates that `cargo tree` lists, such as `serde v1.0.0 (*)`.
fn parse_tree(tree: &str) -> BTreeSet<Name> {
    let of_line = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    };
    tree.lines().filter_map(of_line).collect()
}

/// The digests of the crates' archives, from the lock file.
fn digests(lock: &str) -> BTreeMap<Name, String> {
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
        line.and_then(|line| line.strip_suffix('"')).map(str::to_owned)
    };
    let of_block =
        |block: &str| Some(((value(block, "name")?, value(block, "version")?), value(block, "checksum")?));
    lock.split("[[package]]").filter_map(of_block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_are_read_from_the_tree_and_digests_from_the_lock_file() {
        let tree =
            "hostprobe v0.1.0 (/src/probe-user)\nserde v1.0.2 (*)\nserde_derive v1.0.2 (proc-macro)\n\n";
        let name = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        let expected =
            [name("hostprobe", "0.1.0"), name("serde", "1.0.2"), name("serde_derive", "1.0.2")].into();
        assert_eq!(parse_tree(tree), expected);
        let lock = "version = 4\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.2\"\nsource = \"registry\"\n\
                    checksum = \"ab12\"\ndependencies = [\n \"serde_derive\",\n]\n\n[[package]]\nname = \"hostprobe\"\n\
                    version = \"0.1.0\"\n";
        assert_eq!(digests(lock), [(name("serde", "1.0.2"), "ab12".to_owned())].into());
    }

    #[test]
    fn the_list_names_crates_with_licences_and_edges() {
        let release = Release {
            version: "0.1.0".to_owned(),
            epoch: 0,
            folder: PathBuf::new(),
            scratch: PathBuf::new(),
            quick: true,
        };
        let metadata = json!({
            "packages": [
                { "id": "a", "name": "hostprobe", "version": "0.1.0", "license": "MIT OR Apache-2.0" },
                { "id": "b", "name": "old", "version": "2.0.0", "license": "MIT/Apache-2.0" },
                { "id": "c", "name": "only-tests", "version": "3.0.0", "license": "MIT" },
            ],
            "resolve": { "nodes": [
                { "id": "a", "dependencies": ["b", "c"] },
                { "id": "b", "dependencies": [] },
                { "id": "c", "dependencies": ["b"] },
            ] },
        });
        let name = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        let included = [name("hostprobe", "0.1.0"), name("old", "2.0.0")].into();
        let digests = [(name("old", "2.0.0"), "ab".to_owned())].into();
        let list = list(&release, &metadata, &included, &digests, "t").unwrap();
        assert_eq!(list["metadata"]["component"]["purl"], "pkg:cargo/hostprobe@0.1.0");
        let old = json!({
            "type": "library", "bom-ref": "pkg:cargo/old@2.0.0", "name": "old", "version": "2.0.0",
            "purl": "pkg:cargo/old@2.0.0", "licenses": [{ "expression": "MIT OR Apache-2.0" }],
            "hashes": [{ "alg": "SHA-256", "content": "ab" }],
        });
        assert_eq!(list["components"], json!([old]));
        let edges = json!([
            { "ref": "pkg:cargo/hostprobe@0.1.0", "dependsOn": ["pkg:cargo/old@2.0.0"] },
            { "ref": "pkg:cargo/old@2.0.0", "dependsOn": [] },
        ]);
        assert_eq!(list["dependencies"], edges);
    }
}
