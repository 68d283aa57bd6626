//! The names of places in programs, read from their symbols and debug information in a process of its own.
//!
//! The files are those of the service, and whoever made them chose their bytes. A file may be built to take all memory or
//! to keep its reader busy for ever, and one that is cut while it is mapped ends its reader by SIGBUS. So the reader is a
//! child of the daemon without any rights. It gets the files as open descriptors and opens none itself. The daemon ends it
//! after a while, and takes what it has said by then.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::fd::{FromRawFd as _, RawFd},
    process::ExitCode,
    sync::Arc,
};

use addr2line::{
    Context, demangle_auto,
    gimli::{Dwarf, EndianSlice, RunTimeEndian, SectionId},
};
use flate2::read::ZlibDecoder;
use object::{
    CompressionFormat, Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _, SymbolKind,
};
use rustix::{
    mm::{MapFlags, ProtFlags, mmap},
    process::{Resource, Rlimit, setrlimit},
    thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs},
};
use serde::{Deserialize, Serialize};

/// The first argument with which the program runs [`child`]. It is no command for people.
pub const SUBCOMMAND: &str = "crash-names";

/// The longest request: some thirty places in as many files.
const REQUEST_MAX: u64 = 64 << 10;

/// The longest name that is passed on, in bytes. Names of C++ templates can be megabytes long.
const NAME_MAX: usize = 512;

/// The longest mangled name that is demangled: a short one can stand for a name without end.
const MANGLED_MAX: usize = 4096;

/// The largest compressed section that is read, and all memory that the process may take: a section that unpacks to more is
/// left out.
const SECTION_MAX: u64 = 256 << 20;
const MEMORY_MAX: u64 = 768 << 20;

/// Seconds of CPU time.
const CPU_MAX: u64 = 3;

/// What is to be named.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    pub files: Vec<RequestFile>,
    pub places: Vec<Place>,
}

/// A program or library, by its descriptor.
#[derive(Debug, Serialize, Deserialize)]
pub struct RequestFile {
    pub file: RawFd,
    /// Its separate debug information.
    pub debug: Option<RawFd>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Place {
    /// Index in [`Request::files`].
    pub file: usize,
    /// In bytes from the beginning of the file.
    pub offset: u64,
    /// The place is where a call returns to, so the call is before it.
    pub is_return: bool,
}

/// The names, in the order of [`Request::places`]. A later line says more than an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub names: Vec<Name>,
    /// Whether the first place is in a Go program.
    pub is_go: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    pub symbol: Option<String>,
    pub line: Option<String>,
}

/// The child: it reads a request from its input, and writes a line for what the symbol tables say and another for what the
/// debug information adds.
pub fn child() -> ExitCode {
    confine();
    let mut text = Vec::new();
    if io::stdin().lock().take(REQUEST_MAX).read_to_end(&mut text).is_err() {
        return ExitCode::FAILURE;
    }
    let Ok(request) = serde_json::from_slice::<Request>(&text) else { return ExitCode::FAILURE };
    match name_all(&request, say) {
        Ok(()) => ExitCode::SUCCESS,
        // The daemon waits no longer.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Says what is known after each step, so that it stands should the next one take too long.
fn name_all(request: &Request, mut say: impl FnMut(&Reply) -> io::Result<()>) -> io::Result<()> {
    let modules: Vec<_> = request.files.iter().map(|file| Module::open(file).ok()).collect();
    let module_of = |place: &Place| modules.get(place.file)?.as_ref();
    let is_go = request.places.first().and_then(module_of).is_some_and(Module::is_go);
    let by_symbol = |place: &Place| {
        let module = module_of(place)?;
        module.symbol(module.address(place)?)
    };
    let names = request.places.iter().map(|place| Name { symbol: by_symbol(place), line: None }).collect();
    let mut reply = Reply { names, is_go };
    say(&reply)?;
    for (index, module) in modules.iter().enumerate() {
        let Some(module) = module else { continue };
        if !request.places.iter().any(|place| place.file == index) {
            continue;
        }
        let Some(context) = module.debug_information() else { continue };
        for (name, place) in reply.names.iter_mut().zip(&request.places) {
            let address = module.address(place).filter(|_| place.file == index);
            if let Some(found) = address.and_then(|address| by_debug(&context, address)) {
                name.symbol = found.symbol.or(name.symbol.take());
                name.line = found.line;
            }
        }
        say(&reply)?;
    }
    Ok(())
}

fn say(reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// Gives up whatever the process does not need. Under a filter of system calls some of it fails; the daemon's own bounds
/// hold without.
fn confine() {
    let limits = [
        (Resource::Data, MEMORY_MAX),
        (Resource::Cpu, CPU_MAX),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nproc, 0),
    ];
    for (resource, most) in limits {
        let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    }
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let _ = set_no_new_privs(true);
    let none = CapabilitySet::empty();
    let _ = set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none });
}

type Reader = EndianSlice<'static, RunTimeEndian>;
type Elf = object::File<'static>;

/// A program or library. Its bytes stay mapped until the process ends.
struct Module {
    elf: Elf,
    debug: Option<Elf>,
}

impl Module {
    fn open(request: &RequestFile) -> io::Result<Self> {
        let elf = parse(map(request.file)?)?;
        let debug = request.debug.and_then(|file| parse(map(file).ok()?).ok());
        let is_same = |debug: &Elf| debug.build_id().ok().flatten() == elf.build_id().ok().flatten();
        Ok(Self { debug: debug.filter(is_same), elf })
    }

    /// What files are asked for a symbol or for debug information.
    fn files(&self) -> impl Iterator<Item = &Elf> {
        [Some(&self.elf), self.debug.as_ref()].into_iter().flatten()
    }

    fn is_go(&self) -> bool {
        [".go.buildinfo", ".note.go.buildid"].iter().any(|name| self.elf.section_by_name(name).is_some())
    }

    /// The address that the linker gave a place.
    fn address(&self, place: &Place) -> Option<u64> {
        let offset = place.offset.checked_sub(u64::from(place.is_return))?;
        self.elf.segments().find_map(|segment| {
            let (from, size) = segment.file_range();
            let inside = offset.checked_sub(from).filter(|inside| *inside < size)?;
            segment.address().checked_add(inside)
        })
    }

    /// The function that an address is in, by the symbol tables. A symbol without a size names nothing: what follows it need
    /// not belong to it.
    fn symbol(&self, address: u64) -> Option<String> {
        let mut best: Option<(u64, Cow<'_, str>)> = None;
        for elf in self.files() {
            for symbol in elf.symbols().chain(elf.dynamic_symbols()) {
                let inside = address.checked_sub(symbol.address()).filter(|it| *it < symbol.size());
                let is_code = matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown);
                if inside.is_none()
                    || !is_code
                    || best.as_ref().is_some_and(|(at, _)| *at >= symbol.address())
                {
                    continue;
                }
                if let Ok(name) = symbol.name_bytes()
                    && !name.is_empty()
                {
                    best = Some((symbol.address(), String::from_utf8_lossy(name)));
                }
            }
        }
        best.map(|(_, name)| demangled(&name))
    }

    fn debug_information(&self) -> Option<Context<Reader>> {
        let elf = self.files().find(|elf| elf.section_by_name(".debug_info").is_some())?;
        let endian = if elf.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
        let load = |id: SectionId| {
            Ok::<_, addr2line::gimli::Error>(EndianSlice::new(section(elf, id.name()), endian))
        };
        let mut dwarf = Dwarf::load(load).ok()?;
        dwarf.populate_abbreviations_cache(addr2line::gimli::AbbreviationsCacheStrategy::Duplicates);
        Context::from_arc_dwarf(Arc::new(dwarf)).ok()
    }
}

/// The bytes of a section; none if there is no such section, or one that is too large.
fn section(elf: &Elf, name: &str) -> &'static [u8] {
    let data = elf.section_by_name(name).and_then(|section| section.compressed_data().ok());
    let Some(data) = data else { return &[] };
    if data.format == CompressionFormat::None {
        return data.data;
    }
    if data.format != CompressionFormat::Zlib || data.uncompressed_size > SECTION_MAX {
        return &[];
    }
    let mut bytes = Vec::new();
    let unpacked = ZlibDecoder::new(data.data).take(data.uncompressed_size).read_to_end(&mut bytes);
    // The process ends soon.
    if unpacked.is_ok() { bytes.leak() } else { &[] }
}

/// The function at an address, as the symbol table has it too, and the line. A function that is inlined there is part of the
/// line: `slice.rs:12 in first, from main.rs:34`.
fn by_debug(context: &Context<Reader>, address: u64) -> Option<Name> {
    let mut frames = context.find_frames(address).skip_all_loads().ok()?;
    let mut name = Name::default();
    let mut lines = Vec::new();
    let mut next = frames.next().ok()?;
    while let Some(frame) = next {
        next = frames.next().ok()?;
        let function = frame.function.as_ref().and_then(|function| function.raw_name().ok());
        let function = function.map(|name| demangled(&name));
        let place = frame.location.and_then(|location| {
            let path = location.file?;
            Some(format!("{}:{}", path.rsplit('/').next().unwrap_or(path), location.line?))
        });
        match (next.is_some(), place, function) {
            (true, Some(place), Some(inlined)) => lines.push(format!("{place} in {inlined}")),
            (true, place, _) => lines.extend(place),
            (false, place, function) => {
                lines.extend(place);
                name.symbol = function;
            }
        }
    }
    name.line = (!lines.is_empty()).then(|| short(&lines.join(", from ")));
    Some(name)
}

fn demangled(name: &str) -> String {
    if name.len() > MANGLED_MAX {
        return short(name);
    }
    short(&demangle_auto(Cow::Borrowed(name), None))
}

fn short(name: &str) -> String {
    name[..name.floor_char_boundary(NAME_MAX)].to_owned()
}

fn parse(bytes: &'static [u8]) -> io::Result<Elf> {
    Elf::parse(bytes).map_err(io::Error::other)
}

/// The bytes of an inherited descriptor.
fn map(file: RawFd) -> io::Result<&'static [u8]> {
    // SAFETY: the daemon opened the descriptor for this process, which uses it once for each mapping and never closes it.
    let file = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(file) });
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // SAFETY: the mapping is new, readable, and never removed. If the file changes, this process reads other bytes, which
    // it does not trust anyway, or is ended by SIGBUS.
    let bytes = unsafe {
        let at = mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, &*file, 0)?;
        std::slice::from_raw_parts(at.cast::<u8>(), length)
    };
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;
    use crate::{host::ProcReader, inspect::crash::image::Image};

    #[inline(never)]
    fn a_function_that_is_named() -> usize {
        std::hint::black_box(a_function_that_is_named as fn() -> usize) as usize
    }

    #[test]
    fn symbols_come_first_and_lines_after_them() {
        let reader = ProcReader::new("/").unwrap();
        let image = Image::read(&reader, reader.key_of(std::process::id()).unwrap()).unwrap();
        let address = a_function_that_is_named() as u64;
        let mapping = image.at(address).unwrap();
        let offset = address - mapping.range.start + mapping.offset;
        let (file, _) = image.open(mapping, None).unwrap();
        let files = vec![RequestFile { file: file.as_raw_fd(), debug: None }];
        let place = Place { file: 0, offset, is_return: false };
        let nowhere = [Place { offset: u64::MAX, ..place }, Place { file: 9, ..place }];
        let request = Request { files, places: [place].into_iter().chain(nowhere).collect() };
        let mut replies = Vec::new();
        name_all(&request, |reply| {
            replies.push(reply.clone());
            Ok(())
        })
        .unwrap();
        let [first, last] = &replies[..] else { panic!("{replies:?}") };
        let symbol = first.names[0].symbol.as_deref().unwrap();
        assert!(symbol.ends_with("::tests::a_function_that_is_named"), "{symbol}");
        assert_eq!(first.names[0].line, None);
        assert!(last.names[0].line.as_ref().is_some_and(|it| it.starts_with("names.rs:")), "{last:?}");
        assert_eq!(last.names[1..], [Name::default(), Name::default()]);
        assert!(!last.is_go);
    }

    #[test]
    fn names_are_demangled_and_bounded() {
        assert_eq!(demangled("_ZN4shop6Basket5firstEv"), "shop::Basket::first()");
        assert_eq!(demangled("_RNvCskwGfYPst2Cb_3foo3bar"), "foo::bar");
        assert_eq!(demangled("main"), "main");
        assert_eq!(demangled(&"é".repeat(5000)).len(), NAME_MAX);
    }
}
