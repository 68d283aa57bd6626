//! The names of functions, and of their lines where there is debug information.

use std::{
    collections::HashMap,
    os::fd::{AsRawFd as _, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    rc::Rc,
};

use blazesym::symbolize::{
    Input, Symbolized, Symbolizer,
    source::{Elf, Source},
};

use super::image::Image;

/// The longest name of a function, in characters. Those of C++ templates and Rust closures can have thousands.
const NAME_MAX: usize = 160;

/// A function, as its file names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    /// The source file without its folder, and the line.
    pub line: Option<String>,
}

/// Names functions. A name is what the file says, which any user may have written.
pub struct Namer<'h> {
    symbolizer: Symbolizer,
    /// The private copies of the files that were met, by the address of the image.
    copies: HashMap<*const Image, Option<(OwnedFd, bool)>>,
    /// The root folder of the host, for separate debug information.
    host: &'h Path,
}

impl<'h> Namer<'h> {
    pub fn new(host: &'h Path) -> Self {
        let none: [&Path; 0] = [];
        // What a file names as its separate debug information is not searched: the name may lead anywhere.
        let symbolizer = Symbolizer::builder().enable_auto_reload(false).set_debug_dirs(Some(none)).build();
        Self { symbolizer, copies: HashMap::new(), host }
    }

    /// The function at an address of a file.
    pub fn function(&mut self, image: &Rc<Image>, address: u64) -> Option<Function> {
        let copy = self.copies.entry(Rc::as_ptr(image)).or_insert_with(|| copy(image, self.host));
        let (file, has_debug) = copy.as_ref()?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let find = |debug_syms| {
            let mut source = Elf::new(&path);
            source.debug_syms = debug_syms;
            let source = Source::Elf(source);
            // The tables of a file may be anything, also what the library was not made for.
            let found = catch_unwind(AssertUnwindSafe(|| {
                self.symbolizer.symbolize_single(&source, Input::VirtOffset(address)).ok().and_then(function)
            }));
            found.ok().flatten()
        };
        // Where the debug information has no name, or is damaged, the symbols may have one.
        has_debug.then(|| find(true)).flatten().or_else(|| find(false))
    }
}

fn function(found: Symbolized<'_>) -> Option<Function> {
    let found = found.into_sym()?;
    let line = found.code_info.as_ref().and_then(|code| {
        let line = code.line.map(|line| format!(":{line}")).unwrap_or_default();
        Some(format!("{}{line}", code.file.to_str()?))
    });
    Some(Function { name: short(&found.name), line })
}

/// Without the hash of a Rust name, and not longer than a line.
fn short(name: &str) -> String {
    let plain = match name.rsplit_once("::h") {
        Some((plain, hash)) if hash.len() == 16 && hash.bytes().all(|it| it.is_ascii_hexdigit()) => plain,
        Some(_) | None => name,
    };
    let mut characters = plain.chars();
    let mut short: String = characters.by_ref().take(NAME_MAX).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}

fn copy(image: &Image, host: &Path) -> Option<(OwnedFd, bool)> {
    let separate = if image.has_symbols() { None } else { image.debug_file(host) };
    separate.as_ref().unwrap_or(image).names_copy().ok()
}
