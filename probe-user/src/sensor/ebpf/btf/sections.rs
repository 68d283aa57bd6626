//! The layout of BTF, see <https://docs.kernel.org/bpf/btf.html>: a header, types, and strings.

use std::ops::Range;

/// Most types in one chain of references. A file whose types refer to themselves must not hang the daemon.
pub const DEPTH: usize = 32;

/// The name of the type that describes a raw tracepoint's arguments begins with this.
pub const PROTOTYPE_PREFIX: &str = "btf_trace_";

pub const INT: u32 = 1;
pub const ARRAY: u32 = 3;
pub const STRUCT: u32 = 4;
pub const UNION: u32 = 5;
pub const ENUM: u32 = 6;
pub const FORWARD: u32 = 7;
pub const TYPEDEF: u32 = 8;
pub const VOLATILE: u32 = 9;
pub const CONST: u32 = 10;
pub const RESTRICT: u32 = 11;
pub const POINTER: u32 = 2;
pub const FUNC: u32 = 12;
pub const FUNC_PROTO: u32 = 13;
pub const VAR: u32 = 14;
pub const DATASEC: u32 = 15;
pub const FLOAT: u32 = 16;
pub const DECL_TAG: u32 = 17;
pub const TYPE_TAG: u32 = 18;
pub const ENUM64: u32 = 19;

/// Bytes of the header, and of the part that all types have in common.
pub const HEADER: usize = 24;
const COMMON: usize = 12;

/// The two sections after the header.
pub struct Sections<'a> {
    pub types: &'a [u8],
    pub strings: &'a [u8],
}

impl<'a> Sections<'a> {
    /// Finds the sections by the header. Fails if the header claims more bytes than there are.
    pub fn find(bytes: &'a [u8]) -> Result<Self, String> {
        if bytes.get(..4) != Some(&[0x9f, 0xeb, 1, 0]) {
            return Err("it has no header of BTF version 1".to_owned());
        }
        let [length, type_at, type_length, string_at, string_length] =
            [4, 8, 12, 16, 20].map(|at| word(bytes, at).map(|it| it as usize));
        let section = |at: Option<usize>, long: Option<usize>| {
            let start = at?.checked_add(length?)?;
            bytes.get(start..start.checked_add(long?)?)
        };
        let ends = || format!("its {} bytes end before its sections do", bytes.len());
        Ok(Self {
            types: section(type_at, type_length).ok_or_else(ends)?,
            strings: section(string_at, string_length).ok_or_else(ends)?,
        })
    }

    pub fn name(&self, offset: u32) -> &'a str {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        let name = rest.split(|it| *it == 0).next().unwrap_or_default();
        std::str::from_utf8(name).unwrap_or_default()
    }

    /// Offset of each type in the section of types, in order; the first has the id 1. A kernel has more than a hundred
    /// thousand types, so nothing else of them is stored.
    pub fn offsets(&self) -> Result<Vec<u32>, String> {
        let mut offsets = Vec::new();
        let mut at = 0;
        while at < self.types.len() {
            offsets.push(u32::try_from(at).map_err(|_| "its types are longer than 4 GiB".to_owned())?);
            at = self.type_at(at).map_err(|what| format!("type {} {what}", offsets.len()))?.range.end;
        }
        Ok(offsets)
    }

    pub fn type_at(&self, at: usize) -> Result<RawType<'a>, String> {
        let cut = || "is cut off".to_owned();
        let [name, info, size_or_type] = [0, 4, 8].map(|word_at| word(self.types, at + word_at));
        let (name, info) = (name.ok_or_else(cut)?, info.ok_or_else(cut)?);
        let size_or_type = size_or_type.ok_or_else(cut)?;
        let (kind, items) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let size = match kind {
            INT | VAR | DECL_TAG => 4,
            ARRAY => 12,
            STRUCT | UNION | DATASEC | ENUM64 => 12 * items,
            ENUM | FUNC_PROTO => 8 * items,
            POINTER | FORWARD..=RESTRICT | FUNC | FLOAT | TYPE_TAG => 0,
            other => return Err(format!("is of the unknown kind {other}")),
        };
        let range = at..at + COMMON + size;
        let rest = self.types.get(at + COMMON..range.end).ok_or_else(cut)?;
        Ok(RawType { name, kind, info, size_or_type, rest, range })
    }
}

/// One encoded type.
pub struct RawType<'a> {
    /// Where its name is in the strings. It is read of few types: a kernel has more than a hundred thousand.
    pub name: u32,
    /// Its bytes in the section of types.
    pub range: Range<usize>,
    pub kind: u32,
    pub info: u32,
    /// Its size, or the id of the type that it refers to.
    pub size_or_type: u32,
    /// Members, constants or parameters.
    rest: &'a [u8],
}

impl<'a> RawType<'a> {
    pub fn is_aggregate(&self) -> bool {
        self.kind == STRUCT || self.kind == UNION
    }

    /// The members, constants or parameters, each of `N` words.
    pub fn rows<const N: usize>(&self) -> impl Iterator<Item = [u32; N]> + use<'a, N> {
        self.rest
            .chunks_exact(4 * N)
            .map(|row| std::array::from_fn(|at| word(row, 4 * at).unwrap_or_default()))
    }
}

pub fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// A file of these sections.
pub fn encode(types: &[u8], strings: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(0);
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    for word in [HEADER as u32, 0, length(types), length(types), length(strings)] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(types);
    bytes.extend(strings);
    bytes
}
