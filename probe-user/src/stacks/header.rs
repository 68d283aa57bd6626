//! The parts of an ELF file that stacks need: where its segments and some of its sections are.
//!
//! Any user may have made the file. Every number is checked, and all reads are bounded.

use std::{fs::File, ops::Range, os::unix::fs::FileExt as _};

/// The most program headers and section headers. Real files have some ten, and debug builds some hundred.
const SEGMENTS_MAX: usize = 256;
const SECTIONS_MAX: usize = 4096;
/// The most bytes of section names.
const NAMES_MAX: u64 = 256 << 10;
/// The longest name that is of use.
const NAME_MAX: usize = 64;

/// `e_ident` of a file for 64-bit little-endian machines, as far as it is fixed (`elf(5)`).
const IDENT: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];
const PT_LOAD: u32 = 1;
const SHT_NOBITS: u32 = 8;
const SHF_COMPRESSED: u64 = 0x800;
const HEADER: usize = 64;
const SEGMENT: usize = 56;
const SECTION: usize = 64;

/// A part of the file that is mapped into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfSegment {
    pub offset: u64,
    pub address: u64,
    pub file_bytes: u64,
}

/// A named part of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfSection {
    pub name: String,
    pub address: u64,
    /// Where it is in the file.
    pub file: Range<u64>,
    pub is_compressed: bool,
}

/// Where the parts of an ELF file are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElfHeader {
    pub segments: Vec<ElfSegment>,
    pub sections: Vec<ElfSection>,
    /// Where the headers themselves and the names of sections are in the file.
    pub tables: Vec<Range<u64>>,
}

impl ElfHeader {
    /// Reads the headers of a file. None if it is no ELF file for 64-bit little-endian machines.
    pub fn read(file: &File) -> Option<Self> {
        let length = file.metadata().ok()?.len();
        let bytes = |at: Range<u64>, most: u64| {
            if at.end > length || at.end - at.start > most {
                return None;
            }
            let mut bytes = vec![0; usize::try_from(at.end - at.start).ok()?];
            file.read_exact_at(&mut bytes, at.start).ok()?;
            Some(bytes)
        };
        let head = bytes(0..HEADER as u64, HEADER as u64)?;
        if !head.starts_with(&IDENT) {
            return None;
        }
        let (segments_at, sections_at) = (u64_at(&head, 32)?, u64_at(&head, 40)?);
        let (segment_bytes, segments) = (u16_at(&head, 54)?, u16_at(&head, 56)?);
        let (section_bytes, sections) = (u16_at(&head, 58)?, u16_at(&head, 60)?);
        let names = u16_at(&head, 62)?;
        let table = |at: u64, count: u16, each: usize, most: usize| {
            let count = usize::from(count).min(most);
            let end = at.checked_add((count * each) as u64)?;
            Some((at..end, bytes(at..end, (most * each) as u64)?))
        };
        let mut found = Self::default();
        found.tables.push(0..HEADER as u64);
        if usize::from(segment_bytes) == SEGMENT {
            let (place, table) = table(segments_at, segments, SEGMENT, SEGMENTS_MAX)?;
            found.tables.push(place);
            found.segments = table.chunks_exact(SEGMENT).filter_map(segment).collect();
        }
        // A file without section headers has no names of functions either.
        if usize::from(section_bytes) == SECTION
            && let Some((place, table)) = table(sections_at, sections, SECTION, SECTIONS_MAX)
        {
            found.tables.push(place);
            let names = table.chunks_exact(SECTION).nth(usize::from(names)).and_then(range);
            let names = names.and_then(|at| Some((at.clone(), bytes(at, NAMES_MAX)?)));
            if let Some((place, names)) = names {
                found.tables.push(place);
                let rows = table.chunks_exact(SECTION);
                found.sections = rows.filter_map(|row| section(row, &names, length)).collect();
            }
        }
        Some(found)
    }

    /// A section of this name that has bytes in the file.
    pub fn section(&self, name: &str) -> Option<&ElfSection> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The address that the file itself gives to a place in it.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        let holds = |it: &&ElfSegment| offset.checked_sub(it.offset).is_some_and(|into| into < it.file_bytes);
        let segment = self.segments.iter().find(holds)?;
        segment.address.checked_add(offset - segment.offset)
    }

    /// The lowest address of all segments.
    pub fn base(&self) -> u64 {
        self.segments.iter().map(|segment| segment.address).min().unwrap_or_default()
    }
}

fn segment(row: &[u8]) -> Option<ElfSegment> {
    let (offset, address, file_bytes) = (u64_at(row, 8)?, u64_at(row, 16)?, u64_at(row, 32)?);
    // The first page of a segment is mapped as a whole. Kernels of arm64 have pages of 4, 16 or 64 KiB.
    let before = offset % rustix::param::page_size() as u64;
    let begins_in_page = before <= offset && before <= address;
    let before = if begins_in_page { before } else { 0 };
    let is_mapped = u32_at(row, 0)? == PT_LOAD;
    is_mapped.then(|| ElfSegment {
        offset: offset - before,
        address: address - before,
        file_bytes: file_bytes.saturating_add(before),
    })
}

fn section(row: &[u8], names: &[u8], length: u64) -> Option<ElfSection> {
    let name = names.get(usize::try_from(u32_at(row, 0)?).ok()?..)?;
    let name = &name[..name.iter().take(NAME_MAX).position(|byte| *byte == 0)?];
    let file = range(row)?;
    if u32_at(row, 4)? == SHT_NOBITS || file.end > length {
        return None;
    }
    Some(ElfSection {
        name: String::from_utf8_lossy(name).into_owned(),
        address: u64_at(row, 16)?,
        file,
        is_compressed: u64_at(row, 8)? & SHF_COMPRESSED != 0,
    })
}

fn range(row: &[u8]) -> Option<Range<u64>> {
    let (offset, bytes) = (u64_at(row, 24)?, u64_at(row, 32)?);
    Some(offset..offset.checked_add(bytes)?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn header_of(bytes: &[u8]) -> Option<ElfHeader> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        ElfHeader::read(&file)
    }

    #[test]
    fn the_parts_of_this_program_are_found() {
        let header = ElfHeader::read(&File::open("/proc/self/exe").unwrap()).unwrap();
        assert!(!header.segments.is_empty());
        let text = header.section(".text").unwrap();
        assert_eq!(header.address_of(text.file.start), Some(text.address));
        assert!(header.section(".eh_frame").is_some() && header.section(".bss").is_none());
        assert_eq!(header.address_of(u64::MAX), None);
    }

    #[test]
    fn whatever_a_file_says_its_reader_comes_to_an_end() {
        let program = std::fs::read("/proc/self/exe").unwrap();
        let head = &program[..4096.min(program.len())];
        assert_eq!(header_of(b""), None);
        assert_eq!(header_of(&[0x7f; 64]), None);
        assert!(header_of(&head[..63]).is_none());
        for at in 0..HEADER {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = head.to_vec();
                changed[at] = value;
                let _ = header_of(&changed);
            }
        }
        let mut all = head.to_vec();
        all[32..64].fill(0xff);
        assert!(header_of(&all).is_none_or(|it| it.segments.is_empty() && it.sections.is_empty()));
    }
}
