//! `cargo xtask check`: every check that does not run the product.

mod pages;

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::{
    cargo::{command, root, run},
    fuzz, layers,
};

pub fn check() -> Result<()> {
    run(&mut command(&["fmt", "--all", "--check"]))?;
    run(&mut command(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    fuzz::check()?;
    run(command(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    layers::check()?;
    pages::links()?;
    pages::names()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_text_is_found_between_its_marks() {
        assert_eq!(between("a <b> c </b> d", "<b>", "</b>"), Some(" c "));
        assert_eq!(between("a <b> c", "<b>", "</b>"), None);
    }
}
