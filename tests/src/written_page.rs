//! Pages of `docs/` with places that runs write into, each between `<!-- NAME -->` and `<!-- end of NAME -->`.

use std::{fs, io, path::PathBuf};

/// Writes texts into the places of a page that have their names.
///
/// # Errors
/// If the page cannot be read or written, or has no place of such a name.
pub fn write<'text>(page: &str, texts: impl IntoIterator<Item = (&'text str, String)>) -> io::Result<()> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let mut content = fs::read_to_string(&path)?;
    for (name, text) in texts {
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
        let place = content.find(&begin).zip(content.find(&end)).filter(|(begin, end)| begin < end);
        let (from, to) =
            place.ok_or_else(|| io::Error::other(format!("docs/{page}: it has no place for {name}")))?;
        content.replace_range(from + begin.len()..to, &text);
    }
    fs::write(&path, content)
}
