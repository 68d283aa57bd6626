//! Reduces a kernel's type information to the types that the resolver needs: some kilobytes of several megabytes. A
//! lookup in those takes a tenth of the time, and a small part of the memory, of an index of all types. They are also
//! small enough to be recorded for the tests, one for each kernel that runs the programs.
//!
//! The reduced types keep their offsets, sizes, kinds, and the chain of types from a field to its own. Fields without a
//! requested name are left out. A type behind a pointer is reduced to its name.

use std::collections::{BTreeSet, HashMap};

use super::sections::{
    self, ARRAY, CONST, DEPTH, ENUM, ENUM64, FORWARD, FUNC_PROTO, POINTER, PROTOTYPE_PREFIX, RESTRICT,
    RawType, STRUCT, Sections, TYPE_TAG, TYPEDEF, UNION, VOLATILE,
};

/// Flag of a forward declaration: the type is a union.
const OF_UNION: u32 = 1 << 31;

/// The names that a reduction keeps.
pub struct Names {
    /// Of structures, enums and prototypes.
    pub types: BTreeSet<String>,
    /// Of fields and constants.
    pub members: BTreeSet<&'static str>,
}

pub fn reduce(bytes: &[u8], names: &Names) -> Result<Vec<u8>, String> {
    let sections = Sections::find(bytes)?;
    let offsets = sections.offsets()?;
    let mut copy = Copy {
        sections: &sections,
        offsets: &offsets,
        names,
        copied: HashMap::new(),
        types: Vec::new(),
        strings: vec![0],
        string_offsets: HashMap::new(),
    };
    for id in (1..).take(offsets.len()) {
        let Some(record) = copy.original(id) else { break };
        if copy.is_requested_by_name(&record) || copy.is_requested_nameless_enum(&record) {
            copy.keep(id, false);
        }
    }
    Ok(copy.encode())
}

struct Copy<'a> {
    sections: &'a Sections<'a>,
    /// Of the original types.
    offsets: &'a [u32],
    names: &'a Names,
    /// Ids in the copy, by the id in the original and whether the type is behind a pointer.
    copied: HashMap<(u32, bool), u32>,
    /// The types of the copy, as words.
    types: Vec<Vec<u32>>,
    strings: Vec<u8>,
    string_offsets: HashMap<&'a str, u32>,
}

impl<'a> Copy<'a> {
    fn name_of(&self, record: &RawType<'_>) -> &'a str {
        self.sections.name(record.name)
    }

    /// Most types are functions, their prototypes and pointers, so the kind is looked at before the name.
    fn is_requested_by_name(&self, record: &RawType<'_>) -> bool {
        let named = || self.names.types.contains(self.name_of(record));
        match record.kind {
            STRUCT | UNION | ENUM | ENUM64 => named(),
            TYPEDEF => self.name_of(record).starts_with(PROTOTYPE_PREFIX) && named(),
            _ => false,
        }
    }

    fn is_requested_nameless_enum(&self, record: &RawType<'_>) -> bool {
        let mut constants = record.rows::<2>();
        record.kind == ENUM
            && self.name_of(record).is_empty()
            && constants.any(|[name, _]| self.names.members.contains(self.sections.name(name)))
    }

    /// Whether a member is requested, or holds a requested one.
    fn is_requested(&self, name: &str, id: u32, depth: usize) -> bool {
        if !name.is_empty() {
            return self.names.members.contains(name);
        }
        let Some(inner) = self.original(id).filter(|it| it.is_aggregate() && depth > 0) else { return false };
        inner.rows::<3>().any(|[name, id, _]| self.is_requested(self.sections.name(name), id, depth - 1))
    }

    fn original(&self, id: u32) -> Option<RawType<'a>> {
        let offset = *self.offsets.get((id as usize).checked_sub(1)?)?;
        self.sections.type_at(offset as usize).ok()
    }

    /// Copies a type with the types that it refers to, and returns its id in the copy. An aggregate behind a pointer is
    /// reduced to its name, unless it is requested itself.
    fn keep(&mut self, id: u32, pointed_to: bool) -> u32 {
        let Some(record) = self.original(id) else { return 0 };
        let requested = self.names.types.contains(self.name_of(&record));
        let pointed_to = pointed_to && !(record.is_aggregate() && requested);
        if let Some(copied) = self.copied.get(&(id, pointed_to)) {
            return *copied;
        }
        // The id is taken first, because the types that it refers to may refer back to it.
        self.types.push(Vec::new());
        let own = self.types.len();
        let id_of_own = u32::try_from(own).unwrap_or(0);
        self.copied.insert((id, pointed_to), id_of_own);
        let mut words = vec![self.string(self.name_of(&record))];
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
                    if self.is_requested(name, member, DEPTH) {
                        kept.extend([self.string(name), self.keep(member, false), offset]);
                    }
                }
                words.extend([with_items(record.info, kept.len() / 3), record.size_or_type]);
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
                words.extend([with_items(record.info, kept.len() / 2), record.size_or_type]);
                words.extend(kept);
            }
            FUNC_PROTO => {
                let result = self.keep(record.size_or_type, true);
                words.extend([record.info, result]);
                for [name, parameter] in record.rows::<2>() {
                    let name = self.string(self.sections.name(name));
                    words.extend([name, self.keep(parameter, true)]);
                }
            }
            ARRAY => {
                words.extend([record.info, record.size_or_type]);
                for [element, index, length] in record.rows::<3>() {
                    words.extend([self.keep(element, pointed_to), self.keep(index, pointed_to), length]);
                }
            }
            POINTER => words.extend([record.info, self.keep(record.size_or_type, true)]),
            TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => {
                words.extend([record.info, self.keep(record.size_or_type, pointed_to)]);
            }
            _ => {
                words.extend([record.info, record.size_or_type]);
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
        let offset = *self.string_offsets.entry(text).or_insert(next);
        if offset == next {
            self.strings.extend(text.as_bytes());
            self.strings.push(0);
        }
        offset
    }

    fn encode(self) -> Vec<u8> {
        let types: Vec<u8> = self.types.iter().flatten().flat_map(|it| it.to_le_bytes()).collect();
        sections::encode(&types, &self.strings)
    }
}

/// The same kind and flags, with another number of items.
fn with_items(info: u32, items: usize) -> u32 {
    info & !0xffff | u32::try_from(items).unwrap_or(0)
}
