//! The page about the configuration says what this module reads.

use std::collections::BTreeMap;

use super::*;

const PAGE: &str = include_str!("../../../../../docs/configuration.md");
const README: &str = include_str!("../../../../../README.md");

/// A key that no table has.
const NO_KEY: &str = "no_such_key_anywhere";

/// The keys of each table as the parser knows them, by the table's header in a file.
pub(super) fn tables() -> BTreeMap<String, Vec<String>> {
    let mut tables = BTreeMap::new();
    let mut open = vec![Vec::new()];
    while let Some(path) = open.pop() {
        let path: Vec<(String, bool)> = path;
        let Some(keys) = keys(&path) else { continue };
        for key in &keys {
            for list in [false, true] {
                let mut path = path.clone();
                path.push((key.clone(), list));
                open.push(path);
            }
        }
        tables.insert(header(&path), keys);
    }
    tables
}

/// The keys of the table at this path, in which true marks a list of tables; None if there is no such table.
fn keys(path: &[(String, bool)]) -> Option<Vec<String>> {
    let innermost = format!("{{ {NO_KEY} = 1 }}");
    let text = path.iter().rev().fold(innermost, |inner, (key, list)| {
        if *list { format!("{{ {key} = [{inner}] }}") } else { format!("{{ {key} = {inner} }}") }
    });
    let text = text.strip_prefix("{ ").and_then(|text| text.strip_suffix(" }")).unwrap().to_owned();
    let errors = parse(&text).err()?.to_string();
    let (_, expected) = errors.lines().find(|line| line.contains(NO_KEY))?.split_once("; expected ")?;
    Some(expected.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

fn header(path: &[(String, bool)]) -> String {
    let name: Vec<&str> = path.iter().map(|(key, _)| key.as_str()).collect();
    let name = name.join(".");
    if path.last().is_some_and(|(_, list)| *list) { format!("[[{name}]]") } else { format!("[{name}]") }
}

/// The part of the page below a heading.
fn section(heading: &str) -> &'static str {
    let begin = format!("\n## {heading}\n");
    let (_, rest) = PAGE.split_once(&begin).unwrap_or_else(|| panic!("the page has no section {heading}"));
    rest.split("\n## ").next().unwrap()
}

#[test]
fn the_page_has_every_key_in_the_section_of_its_table() {
    let mut tables = tables();
    let outermost = tables.remove("[]").unwrap();
    for key in ["events", "service"] {
        assert!(outermost.iter().any(|it| it == key), "{outermost:?}");
    }
    assert!(tables.len() >= 13, "{:?}", tables.keys());
    for (table, keys) in tables {
        let section = section(&format!("`{table}`"));
        for key in &keys {
            assert!(section.contains(&format!("\n| `{key}` |")), "{table}: the page lacks `{key}`");
        }
        let rows = section.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, keys.len(), "{table}: the page has a key that does not exist, or one twice");
    }
}

/// The TOML examples of all pages.
pub(super) fn of_all_pages() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut found, mut open) = (Vec::new(), vec![root.join("README.md"), root.join("docs")]);
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.extend(examples(&std::fs::read_to_string(path).unwrap()).map(str::to_owned));
        }
    }
    found
}

/// The configuration among the examples.
pub(super) const COMMENTED: &str = include_str!("../../../../../docs/examples/hostprobe.toml");

/// The text that says the same as the shortest one.
pub(super) fn defaults() -> &'static str {
    let (_, rest) = PAGE.split_once("<!-- defaults -->\n```toml\n").unwrap();
    rest.split("```").next().unwrap()
}

/// The TOML examples of a page.
fn examples(page: &str) -> impl Iterator<Item = &str> {
    page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next())
}

#[test]
fn every_example_is_valid() {
    assert!(examples(PAGE).count() >= 13 && examples(README).count() >= 2);
    for example in examples(PAGE).chain(examples(README)).chain([COMMENTED]) {
        let config = parse(example).unwrap_or_else(|errors| panic!("{errors}\n{example}"));
        assert_eq!(config.warnings, [""; 0], "{example}");
    }
}

#[test]
fn the_page_has_every_default() {
    let written = parse(defaults()).unwrap();
    let shortest = "[[service]]\nname = \"web\"\nexec = [\"/usr/bin/web\"]\n[[service.probe]]\nhttp = \"http://127.0.0.1:8080/\"";
    assert_eq!(format!("{written:#?}"), format!("{:#?}", parse(shortest).unwrap()));
}

#[test]
fn the_commented_example_has_each_kind_of_probe_but_two() {
    let services = parse(COMMENTED).unwrap().services;
    let kinds: Vec<ProbeKind> =
        services.iter().flat_map(|service| &service.probes).map(|probe| probe.kind).collect();
    let missing: Vec<&str> =
        ProbeKind::ALL.into_iter().filter(|kind| !kinds.contains(kind)).map(ProbeKind::as_str).collect();
    // Those are on the page of recipes, and on that of the configuration.
    assert_eq!(missing, ["tcp", "mysql"]);
}
