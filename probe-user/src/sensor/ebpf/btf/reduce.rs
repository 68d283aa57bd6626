//! Reduces a kernel's type information to what the resolver looks at: some kilobytes of several megabytes. The daemon looks
//! fields up in these alone, which costs a tenth of the time and a small part of the memory that an index of all types
//! does; and they are small enough to be kept with the tests, one for every kernel the programs are run on.
//!
//! The layout is that of <https://docs.kernel.org/bpf/btf.html>. What is kept is kept as it is: offsets, sizes, kinds, and
//! the chain of types from a field to what it is. Fields that nobody asks for are left out, and what is only pointed to
//! is reduced to its name.

use std::{collections::HashMap, ops::Range};

use super::super::fields::{self, Names};

const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FORWARD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const POINTER: u32 = 2;
const FUNC_PROTO: u32 = 13;
const TYPE_TAG: u32 = 18;

/// Words of a header, and of the part that all types have in common.
const HEADER: usize = 24;
const COMMON: usize = 12;

/// A forward declaration's flag: it is one of a union.
const OF_UNION: u32 = 1 << 31;

/// The two halves of type information.
pub struct Sections<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Sections<'a> {
    /// Finds them by the header, which must not promise more than there is.
    pub fn find(bytes: &'a [u8]) -> Result<Self, String> {
        if bytes.get(..4) != Some(&[0x9f, 0xeb, 1, 0]) {
            return Err("it does not begin as type information of version 1 does".to_owned());
        }
        let [length, type_at, type_length, string_at, string_length] =
            [4, 8, 12, 16, 20].map(|at| word(bytes, at).map(|it| it as usize));
        let section = |at: Option<usize>, long: Option<usize>| {
            let start = at?.checked_add(length?)?;
            bytes.get(start..start.checked_add(long?)?)
        };
        let ends = || format!("its {} bytes end before what its header promises", bytes.len());
        Ok(Self {
            types: section(type_at, type_length).ok_or_else(ends)?,
            strings: section(string_at, string_length).ok_or_else(ends)?,
        })
    }

    fn name(&self, offset: u32) -> &'a str {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        let name = rest.split(|it| *it == 0).next().unwrap_or_default();
        std::str::from_utf8(name).unwrap_or_default()
    }

    /// Where each type begins in the section of types, in their order; the first has the id 1. A kernel has more than a
    /// hundred thousand, of which only places are kept.
    pub fn places(&self) -> Result<Vec<u32>, String> {
        let mut places = Vec::new();
        let mut at = 0;
        while at < self.types.len() {
            places.push(u32::try_from(at).map_err(|_| "its types are longer than 4 GiB".to_owned())?);
            at = self.kind_at(at).map_err(|what| format!("type {} {what}", places.len()))?.place.end;
        }
        Ok(places)
    }

    /// The type that begins at a place.
    pub fn kind_at(&self, at: usize) -> Result<Kind<'a>, String> {
        let cut = || "is cut off".to_owned();
        let [name, info, of] = [0, 4, 8].map(|word_at| word(self.types, at + word_at));
        let (name, info, of) = (name.ok_or_else(cut)?, info.ok_or_else(cut)?, of.ok_or_else(cut)?);
        let (kind, items) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let size = match kind {
            1 | 14 | 17 => 4,
            ARRAY => 12,
            STRUCT | UNION | 15 | 19 => 12 * items,
            ENUM | FUNC_PROTO => 8 * items,
            POINTER | FORWARD..=RESTRICT | 12 | 16 | TYPE_TAG => 0,
            other => return Err(format!("is of the unknown kind {other}")),
        };
        let place = at..at + COMMON + size;
        let rest = self.types.get(at + COMMON..place.end).ok_or_else(cut)?;
        Ok(Kind { name: self.name(name), kind, info, of, rest, place })
    }
}

/// One type as it is written.
pub struct Kind<'a> {
    /// Its name; empty for none.
    pub name: &'a str,
    /// Its bytes in the section of types.
    pub place: Range<usize>,
    kind: u32,
    info: u32,
    /// Its size, or the id of the type it refers to.
    pub of: u32,
    /// What follows: members, constants, parameters.
    rest: &'a [u8],
}

impl<'a> Kind<'a> {
    fn is_aggregate(&self) -> bool {
        self.kind == STRUCT || self.kind == UNION
    }

    /// Rows of so many words.
    fn rows<const N: usize>(&self) -> impl Iterator<Item = [u32; N]> + use<'a, N> {
        self.rest
            .chunks_exact(4 * N)
            .map(|row| std::array::from_fn(|at| word(row, 4 * at).unwrap_or_default()))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// Keeps of type information what the resolver looks at.
pub fn reduce(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let sections = Sections::find(bytes)?;
    let places = sections.places()?;
    let names = fields::names();
    let mut copy = Copy {
        sections: &sections,
        places: &places,
        names: &names,
        copied: HashMap::new(),
        types: Vec::new(),
        strings: vec![0],
        string_places: HashMap::new(),
    };
    for id in (1..).take(places.len()) {
        let Some(record) = copy.original(id) else { break };
        let named =
            names.types.contains(record.name) && (record.kind != TYPEDEF || copy.is_prototype(&record));
        if (named && record.kind != FORWARD) || copy.is_nameless_enum_of_interest(&record) {
            copy.keep(id, false);
        }
    }
    Ok(copy.written())
}

/// The copy that is being made.
struct Copy<'a> {
    sections: &'a Sections<'a>,
    places: &'a [u32],
    names: &'a Names,
    /// Ids in the copy, by the id in the original and whether it is only pointed to.
    copied: HashMap<(u32, bool), u32>,
    /// The types of the copy, as words.
    types: Vec<Vec<u32>>,
    strings: Vec<u8>,
    string_places: HashMap<&'a str, u32>,
}

impl<'a> Copy<'a> {
    fn is_prototype(&self, record: &Kind<'_>) -> bool {
        record.name.starts_with(&super::KernelTypes::prototype(""))
    }

    fn is_nameless_enum_of_interest(&self, record: &Kind<'_>) -> bool {
        let mut constants = record.rows::<2>();
        record.kind == ENUM
            && record.name.is_empty()
            && constants.any(|[name, _]| self.names.members.contains(self.sections.name(name)))
    }

    /// Whether a member is asked for, or holds one that is.
    fn is_of_interest(&self, name: &str, id: u32, depth: usize) -> bool {
        if !name.is_empty() {
            return self.names.members.contains(name);
        }
        let Some(inner) = self.original(id).filter(|it| it.is_aggregate() && depth > 0) else { return false };
        inner.rows::<3>().any(|[name, id, _]| self.is_of_interest(self.sections.name(name), id, depth - 1))
    }

    fn original(&self, id: u32) -> Option<Kind<'a>> {
        let place = *self.places.get((id as usize).checked_sub(1)?)?;
        self.sections.kind_at(place as usize).ok()
    }

    /// Copies a type and what it needs; its id in the copy. An aggregate that is only pointed to is reduced to its name,
    /// unless it is one that is asked for.
    fn keep(&mut self, id: u32, pointed_to: bool) -> u32 {
        let Some(record) = self.original(id) else { return 0 };
        let asked_for = self.names.types.contains(record.name);
        let pointed_to = pointed_to && !(record.is_aggregate() && asked_for);
        if let Some(known) = self.copied.get(&(id, pointed_to)) {
            return *known;
        }
        // Its place is taken before what it refers to is copied, which may refer to it.
        self.types.push(Vec::new());
        let own = self.types.len();
        let id_of_own = u32::try_from(own).unwrap_or(0);
        self.copied.insert((id, pointed_to), id_of_own);
        let mut words = vec![self.string(record.name)];
        match record.kind {
            STRUCT | UNION if pointed_to => {
                let of_union = if record.kind == UNION { OF_UNION } else { 0 };
                words.extend([FORWARD << 24 | of_union, 0]);
            }
            STRUCT | UNION => {
                let rows: Vec<_> = record.rows::<3>().collect();
                let mut kept = Vec::new();
                for [name, member, offset] in rows {
                    let name = self.sections.name(name);
                    if self.is_of_interest(name, member, super::DEPTH) {
                        kept.extend([self.string(name), self.keep(member, false), offset]);
                    }
                }
                words.extend([with_items(record.info, kept.len() / 3), record.of]);
                words.extend(kept);
            }
            ENUM => {
                let mut kept = Vec::new();
                for [name, value] in record.rows::<2>() {
                    let name = self.sections.name(name);
                    if self.names.members.contains(name) {
                        kept.extend([self.string(name), value]);
                    }
                }
                words.extend([with_items(record.info, kept.len() / 2), record.of]);
                words.extend(kept);
            }
            FUNC_PROTO => {
                let result = self.keep(record.of, true);
                words.extend([record.info, result]);
                for [name, parameter] in record.rows::<2>() {
                    let name = self.string(self.sections.name(name));
                    words.extend([name, self.keep(parameter, true)]);
                }
            }
            ARRAY => {
                words.extend([record.info, record.of]);
                for [element, index, length] in record.rows::<3>() {
                    words.extend([self.keep(element, pointed_to), self.keep(index, pointed_to), length]);
                }
            }
            POINTER => words.extend([record.info, self.keep(record.of, true)]),
            TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => {
                words.extend([record.info, self.keep(record.of, pointed_to)]);
            }
            _ => {
                words.extend([record.info, record.of]);
                words.extend(record.rows::<1>().flatten());
            }
        }
        self.types[own - 1] = words;
        id_of_own
    }

    fn string(&mut self, text: &'a str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let next = u32::try_from(self.strings.len()).unwrap_or(0);
        let place = *self.string_places.entry(text).or_insert(next);
        if place == next {
            self.strings.extend(text.as_bytes());
            self.strings.push(0);
        }
        place
    }

    fn written(self) -> Vec<u8> {
        let types: Vec<u8> = self.types.iter().flatten().flat_map(|it| it.to_le_bytes()).collect();
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(0);
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [HEADER as u32, 0, length(&types), length(&types), length(&self.strings)] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(types);
        bytes.extend(self.strings);
        bytes
    }
}

/// The same kind and flags, with another number of items.
fn with_items(info: u32, items: usize) -> u32 {
    info & !0xffff | u32::try_from(items).unwrap_or(0)
}
