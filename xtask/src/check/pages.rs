//! What the Markdown pages refer to exists: the targets of links, and the files and items of the source that the pages
//! about the code name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::cargo::root;

/// Pages whose code spans are checked. Each names files relative to the repository or to `probe-user/src`.
const ABOUT_THE_CODE: [&str; 3] = ["docs/architecture.md", "docs/contributing.md", "docs/design"];

/// Fails unless every relative link of the pages leads to a file.
pub fn links() -> Result<()> {
    let mut broken = Vec::new();
    for page in pages()? {
        let text = read(&page)?;
        let lost = targets(&text).filter(|target| !leads_somewhere(&page, target));
        broken.extend(lost.map(|target| format!("{}: no such file: {target}", page.display())));
    }
    ensure!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
    Ok(())
}

/// Fails unless every file that a page about the code names exists, and every item is in its file.
pub fn names() -> Result<()> {
    let mut wrong = Vec::new();
    let about_the_code = |page: &PathBuf| ABOUT_THE_CODE.iter().any(|it| page.starts_with(root().join(it)));
    for page in pages()?.iter().filter(|page| about_the_code(page)) {
        let text = read(page)?;
        let missing = code_spans(&text).filter_map(|span| missing(span).err());
        wrong.extend(missing.map(|why| format!("{}: {why}", page.display())));
    }
    ensure!(wrong.is_empty(), "pages that name what is not there:\n{}", wrong.join("\n"));
    Ok(())
}

/// The README and every page below `docs`.
fn pages() -> Result<Vec<PathBuf>> {
    let mut pages = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                pages.push(path);
            }
        }
    }
    Ok(pages)
}

fn read(page: &Path) -> Result<String> {
    fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))
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

/// The texts between single backticks, outside of fenced blocks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2))
}

/// An error if a span is written as a file or folder of the repository, or as `file.rs::item`, and that is not there.
fn missing(span: &str) -> Result<(), String> {
    let (path, item) = span.split_once("::").unwrap_or((span, ""));
    if !is_path(path) {
        return Ok(());
    }
    let places = [root().join(path), root().join("probe-user/src").join(path)];
    let Some(file) = places.iter().find(|place| place.exists()) else {
        return Err(format!("no such file or folder: {path}"));
    };
    let item = item.rsplit("::").next().unwrap_or_default();
    if item.is_empty() || fs::read_to_string(file).is_ok_and(|text| has_word(&text, item)) {
        Ok(())
    } else {
        Err(format!("{path} has no {item}"))
    }
}

/// A Rust file, or a relative path that ends with a slash or has the name of a file of ours at its end.
fn is_path(text: &str) -> bool {
    const ENDS: [&str; 7] = ["/", ".md", ".toml", ".conf", ".service", ".rules", ".json"];
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte);
    let relative = !text.starts_with('/') && text.bytes().all(plain);
    relative && (text.ends_with(".rs") || text.contains('/') && ENDS.iter().any(|end| text.ends_with(end)))
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|it| it == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_and_followed() {
        let text = "see [a](docs/a.md#part), ![b](b.png \"title\") and [c](https://example.org)";
        assert_eq!(targets(text).collect::<Vec<_>>(), ["docs/a.md#part", "b.png", "https://example.org"]);
        let page = root().join("README.md");
        assert!(leads_somewhere(&page, "Cargo.toml#workspace") && leads_somewhere(&page, "#top"));
        assert!(!leads_somewhere(&page, "nowhere.md"));
    }

    #[test]
    fn code_spans_are_read_outside_of_fenced_blocks() {
        let text = "`a` and `b.rs`\n```toml\n`c`\n```\nthen `d`";
        assert_eq!(code_spans(text).collect::<Vec<_>>(), ["a", "b.rs", "d"]);
    }

    #[test]
    fn a_file_that_is_named_exists_and_has_the_item() {
        for there in [
            "lib.rs",
            "lib.rs::run",
            "xtask/src/check.rs::check",
            "engine/",
            "/proc/PID/stat",
            "a/b",
            "u8::MAX",
        ] {
            assert_eq!(missing(there), Ok(()), "{there}");
        }
        assert_eq!(missing("engine/nowhere.rs"), Err("no such file or folder: engine/nowhere.rs".to_owned()));
        assert_eq!(missing("lib.rs::walk"), Err("lib.rs has no walk".to_owned()));
    }

    #[test]
    fn every_page_is_checked() {
        let pages = pages().unwrap();
        assert!(pages.contains(&root().join("README.md")));
        assert!(pages.contains(&root().join("docs/architecture.md")));
    }
}
