//! The types of modules. The file of a module goes on where the kernel's ends: its first type has the number after the
//! kernel's last, and its names count from the end of the kernel's.

use std::borrow::Cow;

use super::sections::{
    self, ARRAY, CONST, DATASEC, DECL_TAG, ENUM, ENUM64, FUNC, FUNC_PROTO, POINTER, RESTRICT, STRUCT,
    Sections, TYPE_TAG, TYPEDEF, UNION, VAR, VOLATILE,
};

/// The types of a kernel and of some of its modules, as one file has them. A module that makes no sense is left out.
pub fn joined<'a>(kernel: &'a [u8], modules: &[Vec<u8>]) -> Result<Cow<'a, [u8]>, String> {
    if modules.is_empty() {
        return Ok(Cow::Borrowed(kernel));
    }
    let base = Sections::find(kernel)?;
    let mut all = Joined {
        base: Lengths::of(base.offsets()?.len(), base.strings.len())?,
        count: base.offsets()?.len(),
        types: base.types.to_vec(),
        strings: base.strings.to_vec(),
    };
    for module in modules {
        if let Err(error) = all.add(module) {
            tracing::warn!("type information of a kernel module is left out: {error}");
        }
    }
    Ok(Cow::Owned(sections::encode(&all.types, &all.strings)))
}

/// How many types there are, and how long the names are.
#[derive(Clone, Copy)]
struct Lengths {
    types: u32,
    strings: u32,
}

impl Lengths {
    fn of(types: usize, strings: usize) -> Result<Self, String> {
        let long = |_| "it is longer than 4 GiB".to_owned();
        Ok(Self {
            types: u32::try_from(types).map_err(long)?,
            strings: u32::try_from(strings).map_err(long)?,
        })
    }
}

struct Joined {
    /// Of the kernel.
    base: Lengths,
    /// Types so far.
    count: usize,
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Joined {
    /// Adds a module. Another one may be where its types are meant to be, so they are moved behind that.
    fn add(&mut self, module: &[u8]) -> Result<(), String> {
        let part = Sections::find(module)?;
        let offsets = part.offsets()?;
        let now = Lengths::of(self.count, self.strings.len())?;
        let by = Lengths { types: now.types - self.base.types, strings: now.strings - self.base.strings };
        // The sums with a module's own lengths must fit as well.
        Lengths::of(self.count + offsets.len(), self.strings.len() + part.strings.len())?;
        for at in &offsets {
            let record = part.type_at(*at as usize)?;
            let bytes = part.types.get(record.range).unwrap_or_default();
            let words = bytes.chunks_exact(4).enumerate();
            for (place, word) in words.filter_map(|(place, it)| Some((place, sections::word(it, 0)?))) {
                let moved = match meaning(record.kind, place) {
                    Meaning::Name if word >= self.base.strings => word.saturating_add(by.strings),
                    Meaning::Type if word > self.base.types => word.saturating_add(by.types),
                    Meaning::Name | Meaning::Type | Meaning::Other => word,
                };
                self.types.extend(moved.to_le_bytes());
            }
        }
        self.strings.extend(part.strings);
        self.count += offsets.len();
        Ok(())
    }
}

/// What a word of a record refers to.
enum Meaning {
    Name,
    Type,
    Other,
}

/// The meaning of the word at this place of a record: its name, its flags, its size or type, then its items.
fn meaning(kind: u32, place: usize) -> Meaning {
    let item = match place {
        0 => return Meaning::Name,
        1 => return Meaning::Other,
        2 => match kind {
            POINTER | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FUNC_PROTO | VAR | DECL_TAG
            | TYPE_TAG => {
                return Meaning::Type;
            }
            _ => return Meaning::Other,
        },
        other => other - 3,
    };
    match (kind, item % 3, item % 2) {
        (STRUCT | UNION, 0, _) | (ENUM64, 0, _) | (ENUM | FUNC_PROTO, _, 0) => Meaning::Name,
        (STRUCT | UNION, 1, _) | (ARRAY, 0 | 1, _) | (DATASEC, 0, _) | (FUNC_PROTO, _, 1) => Meaning::Type,
        _ => Meaning::Other,
    }
}
