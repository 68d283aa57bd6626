//! The file that a process executes, as far as its stacks need it.
//!
//! The file belongs to any user, who may write to it meanwhile. So no part of it is mapped into memory: to touch a mapped
//! page behind a file's new end is SIGBUS. Bounded parts are read instead, and what is to be mapped is a private copy of the
//! parts that are needed, with holes between them.

use std::{
    fs::File,
    io,
    ops::Range,
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use framehop::ExplicitModuleSectionInfo;
use rustix::fs::{MemfdFlags, Mode, OFlags, ftruncate, memfd_create};

use super::header::{ElfHeader, ElfSection};
use crate::{host::mapping::CodeMapping, untrusted_file};

/// The largest unwind table and the largest table of names that are read. Browsers have 20 MiB.
const TABLE_MAX: u64 = 32 << 20;
/// The most bytes of all debug information of a file. It is left out where there is more.
const DEBUG_MAX: u64 = 24 << 20;

/// Tables of names: functions that the file has, and those that it exports.
const NAMES: [&str; 4] = [".symtab", ".strtab", ".dynsym", ".dynstr"];
const DEBUG: &str = ".debug_";
/// It names a further file, which may be any path.
const SUPPLEMENT: &str = ".debug_sup";
const BUILD_ID: &str = ".note.gnu.build-id";

/// Where Debian and Fedora install separate debug information.
const DEBUG_FOLDER: &str = "usr/lib/debug/.build-id";

/// An executable or a library.
#[derive(Debug)]
pub struct Image {
    file: File,
    pub header: ElfHeader,
}

impl Image {
    /// Opens the file of a mapping as the process sees it: `process` is the folder of the process in `/proc`.
    pub fn open(process: &Path, mapping: &CodeMapping) -> Result<Self, String> {
        Self::of(open(process, mapping)?)
    }

    /// Reads the head of a file.
    pub fn of(file: File) -> Result<Self, String> {
        let header = ElfHeader::read(&file).ok_or("no ELF file for 64-bit little-endian machines")?;
        Ok(Self { file, header })
    }

    /// The separate file with its debug information, if that is installed on the host.
    pub fn debug_file(&self, host: &Path) -> Option<Self> {
        let note = self.bytes(self.header.section(BUILD_ID)?, 1024)?;
        // Three numbers and the name `GNU` precede the id.
        let id: String = note.get(16..)?.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
        let (folder, name) = id.split_at_checked(2)?;
        let path = host.join(DEBUG_FOLDER).join(folder).join(format!("{name}.debug"));
        let file = untrusted_file::open(&path).ok()?;
        let header = ElfHeader::read(&file)?;
        Some(Self { file, header })
    }

    /// Whether it has the names of all its functions, and not only of those that it exports.
    pub fn has_symbols(&self) -> bool {
        self.header.section(".symtab").is_some()
    }

    /// What the unwinder reads of it.
    pub fn unwind_tables(&self) -> ExplicitModuleSectionInfo<Vec<u8>> {
        let section = |name| self.header.section(name).filter(|section| !section.is_compressed);
        let address = |name| section(name).map(addresses);
        let bytes = |name| section(name).and_then(|section| self.bytes(section, TABLE_MAX));
        ExplicitModuleSectionInfo {
            base_svma: self.header.base(),
            text_svma: address(".text"),
            got_svma: address(".got"),
            eh_frame_svma: address(".eh_frame"),
            eh_frame: bytes(".eh_frame"),
            eh_frame_hdr_svma: address(".eh_frame_hdr"),
            eh_frame_hdr: bytes(".eh_frame_hdr"),
            debug_frame: bytes(".debug_frame"),
            ..Default::default()
        }
    }

    /// A private copy with the tables of names, and whether it has the debug information as well.
    pub fn names_copy(&self) -> io::Result<(OwnedFd, bool)> {
        let is_debug = |it: &&ElfSection| it.name.starts_with(DEBUG) && it.name != SUPPLEMENT;
        let debug: Vec<&ElfSection> = self.header.sections.iter().filter(is_debug).collect();
        let bytes = debug.iter().fold(0_u64, |sum, it| sum.saturating_add(it.file.end - it.file.start));
        let has_debug = bytes > 0 && bytes <= DEBUG_MAX && !debug.iter().any(|section| section.is_compressed);
        let names = NAMES.iter().filter_map(|name| self.header.section(name));
        let names = names.filter(|section| section.file.end - section.file.start <= TABLE_MAX);
        let parts = names.chain(debug.into_iter().filter(|_| has_debug)).map(|section| section.file.clone());
        let copy = File::from(memfd_create("hostprobe-symbols", MemfdFlags::CLOEXEC)?);
        ftruncate(&copy, self.file.metadata()?.len())?;
        for part in self.header.tables.iter().cloned().chain(parts) {
            copy_range(&self.file, &copy, part)?;
        }
        Ok((copy.into(), has_debug))
    }

    fn bytes(&self, section: &ElfSection, most: u64) -> Option<Vec<u8>> {
        let length = section.file.end - section.file.start;
        let mut bytes = vec![0; usize::try_from(length).ok().filter(|_| length <= most)?];
        self.file.read_exact_at(&mut bytes, section.file.start).ok()?;
        Some(bytes)
    }
}

fn addresses(section: &ElfSection) -> Range<u64> {
    section.address..section.address.saturating_add(section.file.end - section.file.start)
}

fn copy_range(from: &File, to: &File, range: Range<u64>) -> io::Result<()> {
    let mut piece = vec![0; 256 << 10];
    let mut at = range.start;
    while at < range.end {
        let most = usize::try_from(range.end - at).map_or(piece.len(), |left| left.min(piece.len()));
        let read = from.read_at(&mut piece[..most], at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all_at(&piece[..read], at)?;
        at += read as u64;
    }
    Ok(())
}

fn open(process: &Path, mapping: &CodeMapping) -> Result<File, String> {
    // The executable is there also if its path leads to another file by now. The kernel executes regular files alone.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let exe = rustix::fs::open(process.join("exe"), flags, Mode::empty()).map(File::from);
    if let Some(exe) = exe.ok().filter(|exe| is_mapped(exe, mapping) == Some(true)) {
        return Ok(exe);
    }
    if mapping.is_deleted {
        return Err("the file was replaced since the process started".to_owned());
    }
    let below_root = mapping.path.trim_start_matches('/');
    let path: PathBuf = process.join("root").join(below_root);
    let file = untrusted_file::open(&path).map_err(|error| error.reason.to_string())?;
    // On overlayfs and btrfs the kernel shows another device for a mapping than for the file.
    match is_mapped(&file, mapping) {
        Some(false) => Err("the file was replaced since the process started".to_owned()),
        Some(true) | None => Ok(file),
    }
}

/// Whether a mapping is of this file. None if they are on different devices.
fn is_mapped(file: &File, mapping: &CodeMapping) -> Option<bool> {
    let meta = file.metadata().ok()?;
    let device = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    (device == mapping.device).then(|| meta.ino() == mapping.inode)
}
