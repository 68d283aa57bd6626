//! `cargo xtask check`: every check that does not run the product.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::cargo::{command, root, run};

pub fn check() -> Result<()> {
    run(&mut command(&["fmt", "--all", "--check"]))?;
    run(&mut command(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    run(command(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    links()?;
    figures()
}

/// Fails unless the README quotes the figures that were measured last.
fn figures() -> Result<()> {
    let read = |page: &str| {
        let path = root().join(page);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let (readme, page) = (read("README.md")?, read("docs/numbers.md")?);
    let table =
        between(&readme, "<!-- numbers: written by `cargo xtask bench` -->", "<!-- end of numbers -->");
    let table =
        table.context("README.md: the table of figures is missing; tests/src/bench/page.rs has its marks")?;
    let same = !table.trim().is_empty() && page.contains(table.trim());
    ensure!(same, "README.md: the figures differ from docs/numbers.md; run `cargo xtask bench`");
    Ok(())
}

/// The part of a text between two marks.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    Some(text.split_once(begin)?.1.split_once(end)?.0)
}

/// Fails unless every relative link of the Markdown pages leads to a file.
fn links() -> Result<()> {
    let mut pages = vec![root().join("README.md")];
    if let Ok(entries) = fs::read_dir(root().join("docs")) {
        pages.extend(entries.flatten().map(|entry| entry.path()));
    }
    let mut broken = Vec::new();
    for page in pages.iter().filter(|page| page.extension().is_some_and(|end| end == "md") && page.exists()) {
        let text = fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?;
        let lost = targets(&text).filter(|target| !leads_somewhere(page, target));
        broken.extend(lost.map(|target| format!("{}: no such file: {target}", page.display())));
    }
    ensure!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
    Ok(())
}

/// The targets of `[text](target)` and `![text](target)`.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ', '\n']).next())
}

fn leads_somewhere(page: &Path, target: &str) -> bool {
    let path = target.split('#').next().unwrap_or_default();
    let elsewhere = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
    elsewhere || page.parent().map_or_else(PathBuf::new, Path::to_owned).join(path).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_text_is_found_between_its_marks() {
        assert_eq!(between("a <b> c </b> d", "<b>", "</b>"), Some(" c "));
        assert_eq!(between("a <b> c", "<b>", "</b>"), None);
    }

    #[test]
    fn links_are_found_and_followed() {
        let text = "see [a](docs/a.md#part), ![b](b.png \"title\") and [c](https://example.org)";
        assert_eq!(targets(text).collect::<Vec<_>>(), ["docs/a.md#part", "b.png", "https://example.org"]);
        let page = root().join("README.md");
        assert!(leads_somewhere(&page, "Cargo.toml#workspace") && leads_somewhere(&page, "#top"));
        assert!(!leads_somewhere(&page, "nowhere.md"));
    }
}
